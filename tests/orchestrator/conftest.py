"""Runs as the ledger would remember them, made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tta_tasks.kinds import kind_of
from tta_tasks.models import (
    DEFAULT_GATES,
    AcceptedTest,
    AnyRequest,
    AnyResult,
    Check,
    CollectionRequest,
    CollectionResult,
    Component,
    Criterion,
    Decision,
    DeploymentRequest,
    DeploymentResult,
    Dropped,
    ErrorInfo,
    GateOutcome,
    GenerationRequest,
    GenerationResult,
    Mode,
    Module,
    ModuleCoverage,
    Priority,
    Promotion,
    RefactoringRequest,
    RefactoringResult,
    RefactoringStep,
    RejectedTest,
    RunPlan,
    RunRecord,
    Stage,
    Status,
    SuiteReport,
    Target,
    TaskRecord,
    TestFailure,
    TestingRequest,
    TestingResult,
)

NOW = 1_790_000_000.0
DIGEST = "a1b2c3d4" * 8
NAMES = ("tokens", "parser", "evaluator", "units", "history", "cli", "formats", "errors")
REASONS = ("adds_nothing", "adds_nothing", "flaky", "duplicate", "leaks")


def coverage(path: str, covered: int, of: int = 60) -> ModuleCoverage:
    return ModuleCoverage(
        path=path, statements=of, covered_statements=covered, branches=20, covered_branches=covered // 4
    )


class Made:
    """A run under construction: its tasks in order, each begun when what it needs has ended."""

    def __init__(self, modules: int, mode: Mode, outcome: str, hostile: str) -> None:
        self.outcome, self.mode = outcome, mode
        names = [f"calculator.{NAMES[i] if i < len(NAMES) else f'module_{i:02}'}" for i in range(modules)]
        self.modules = [Module(name=f"{name}{hostile}", path=f"src/{name.replace('.', '/')}.py") for name in names]
        self.component = Component(name="calculator", import_root="src", modules=tuple(self.modules))
        self.hostile = hostile
        self.tasks: list[TaskRecord] = []

    def add(  # noqa: PLR0917 - a row of a table
        self,
        stage: Stage,
        label: str,
        request: AnyRequest,
        result: AnyResult,
        start: float,
        duration: float,
        worker: str,
    ) -> None:
        """Remember a task as it ended, or stands."""
        finished = result.status is not Status.RUNNING
        duration = 0.01 if result.status in {Status.SKIPPED, Status.CANCELLED} else duration
        self.tasks.append(
            TaskRecord(
                id=f"task-{len(self.tasks)}",
                run_id="r1",
                name="tta_tasks.any",
                stage=stage,
                label=label,
                queue="openhands" if stage is Stage.GENERATION else "collection",
                optional=kind_of(request).optional,
                priority=Priority.NORMAL,
                status=result.status,
                progress="" if finished else f"round 1: 12 candidates{self.hostile}",
                submitted_at=NOW,
                started_at=None if result.status is Status.QUEUED else NOW + start,
                finished_at=NOW + start + duration if result.status.terminal else None,
                worker="" if result.status is Status.QUEUED else worker,
                slots=0 if result.status is Status.QUEUED else 1,
                attempts=0 if result.status is Status.QUEUED else 1,
                request=request,
                result=result if result.status.terminal else None,
            )
        )

    def common(self, needs: Sequence[int] = ()) -> dict[str, Any]:
        """What every request is told."""
        ids = tuple(f"task-{index}" for index in needs)
        return {"run_id": "r1", "snapshot": DIGEST, "component": self.component, "needs": ids}

    def status(self, default: Status = Status.COMPLETED) -> Status:
        """The end of whatever comes after the point where the outcome was decided."""
        if self.outcome in {"baseline", "gate"}:
            return Status.SKIPPED
        return {"cancelled": Status.CANCELLED, "running": Status.QUEUED}.get(self.outcome, default)

    # -- stages

    def testing(self) -> float:
        """The baseline."""
        failures = [
            f"tests/test_parser.py::test_{i}{self.hostile}" for i in range(2 if self.outcome == "baseline" else 0)
        ]
        trace = f"    def test():\n>       assert parse('1 +') == 3{self.hostile}\nE       assert None == 3"
        suite = SuiteReport(
            passed=9,
            failed=len(failures),
            failures=tuple(TestFailure(id=name, message=trace) for name in failures),
            coverage=tuple(coverage(module.path, 18 + 3 * (i % 5)) for i, module in enumerate(self.modules)),
            duration_s=1.4,
        )
        status = Status.FAILED if failures else Status.COMPLETED
        error = (
            ErrorInfo(type="UsageError", message="2 of 11 tests fail.", hint="Repair them first.") if failures else None
        )
        result = TestingResult(status=status, error=error, suite=suite, python="3.11.4", sandbox="bubblewrap")
        self.add(Stage.TESTING, "test", TestingRequest(**self.common()), result, 0.3, 3.1, "testing@host")
        return 3.4

    def generation(self, start: float) -> float:
        """One task a module, on two workers."""
        free = [start, start if self.mode is Mode.ASYNC else 1e9]
        for index, module in enumerate(self.modules):
            slot = free.index(min(free))
            result = self.generated(index, module)
            duration = 0.2 if result.cached else 6.0 + 4.1 * (index * 7 % 5)
            begin = free[slot] + 0.1
            request = GenerationRequest(**self.common([0]), module=module)
            self.add(
                Stage.GENERATION, f"generate {module.name}", request, result, begin, duration, f"worker-{slot}@host"
            )
            free[slot] = begin + duration
        return max(end for end in free if end < 1e9)

    def generated(self, index: int, module: Module) -> GenerationResult:
        """What one module's task answered."""
        if self.outcome == "baseline":
            return GenerationResult(status=Status.SKIPPED, module=module)
        if self.outcome in {"running", "cancelled"} and index > 0:
            live = Status.RUNNING if index < 3 else Status.QUEUED
            return GenerationResult(status=live if self.outcome == "running" else Status.CANCELLED, module=module)
        if index == 5:
            error = ErrorInfo(
                type="EngineFailed", message=f"{module.path} line 3: invalid syntax{self.hostile}", hint=""
            )
            return GenerationResult(status=Status.FAILED, module=module, error=error)
        name = module.path.rpartition("/")[2].removesuffix(".py")
        return GenerationResult(
            status=Status.COMPLETED,
            module=module,
            cached=index == 2,
            engines=("characterize 1",),
            coverage_before=coverage(module.path, 18 + 3 * (index % 5)),
            coverage_after=coverage(module.path, 58 - 5 * (index % 3)),
            accepted=tuple(
                AcceptedTest(name=f"test_{name}_{i}", reason="coverage", criteria=(f"AC{1 + (index + i) % 5}",))
                for i in range(5 + index % 4)
            ),
            rejected=tuple(
                RejectedTest(name=f"test_{name}_r{i}", reason=REASONS[i % 5], detail=f"seen in round {i}{self.hostile}")
                for i in range(index % 6)
            ),
            files=(f"tests/test_{name}_characterization.py",),
            patch=DIGEST,
            rounds=1,
            threshold_met=index % 3 != 2,
        )

    def refactoring(self, start: float) -> float:
        """Beside generation, or after it."""
        steps = (
            RefactoringStep(
                name="ruff check --fix", outcome="kept", detail="11 fixes in 3 files", files=("src/calculator/cli.py",)
            ),
            RefactoringStep(
                name="pyupgrade", outcome="dropped", detail=f"public API: Token became a tuple{self.hostile}"
            ),
            RefactoringStep(name="ruff format", outcome="nothing"),
        )
        status = Status.SKIPPED if self.outcome == "baseline" else self.status(Status.COMPLETED)
        status = Status.COMPLETED if self.outcome == "gate" else status
        result = RefactoringResult(
            status=status, engine="embedded 1", steps=steps if status is Status.COMPLETED else ()
        )
        request = RefactoringRequest(**self.common([0]))
        self.add(Stage.REFACTORING, "refactor", request, result, start + 0.1, 5.2, "refactoring@host")
        return start + 5.3

    def collection(self, start: float) -> float:
        """The callback."""
        status = Status.FAILED if self.outcome == "gate" else self.status()
        done = self.outcome in {"success", "gate", "dropped", "parked", "approved"}
        gates = (
            GateOutcome(name="pass_rate", outcome="passed", detail="100.0 % of 100 %"),
            GateOutcome(
                name="coverage", outcome="failed" if self.outcome == "gate" else "passed", detail="71.2 % of 80 %"
            ),
            GateOutcome(name="lint", outcome="passed", detail="no new findings"),
            GateOutcome(
                name="types", outcome="reported", detail="2 new findings", findings=(f"cli.py:3: Any{self.hostile}",)
            ),
            GateOutcome(name="security", outcome="off", detail="not asked for"),
        )
        dropped = (Dropped(what="tests/test_parser_characterization.py", reason="fails with the refactoring"),)
        result = CollectionResult(
            status=status,
            tree=DIGEST if done else None,
            gates=gates if done else (),
            dropped=dropped if self.outcome == "dropped" else (),
            suite=SuiteReport(passed=34, duration_s=2.2) if done else None,
            coverage_before=38.4 if done else None,
            coverage_after=91.7 if done else None,
        )
        request = CollectionRequest(
            **self.common(range(len(self.tasks))), target=Target.PRODUCTION, gates=DEFAULT_GATES[Target.PRODUCTION]
        )
        self.add(Stage.COLLECTION, "collect", request, result, start + 0.1, 4.4, "collection@host")
        return start + 4.5

    def deployment(self, start: float, environment: Stage) -> float:
        """A release."""
        status = self.status()
        if self.outcome == "parked" and environment is Stage.PRODUCTION:
            status = Status.PARKED
        result = DeploymentResult(
            status=status,
            environment=environment,
            release=DIGEST,
            action="released" if status is Status.COMPLETED else "",
            location=f".tta/deployments/calculator/{environment}/current",
            checks=(Check(name="import", ok=True, detail="calculator"), Check(name="health", ok=True)),
        )
        request = DeploymentRequest(**self.common([len(self.tasks) - 1]), environment=environment)
        self.add(environment, f"deploy to {environment}", request, result, start + 0.1, 2.6, "deployment@host")
        if environment is Stage.PRODUCTION and self.outcome in {"parked", "approved"}:
            self.park(start)
        return start + 2.7

    def park(self, start: float) -> None:
        """Let the last task have been parked since ``start``; where it was approved, that was an hour later."""
        promotion = Promotion(
            waits_for="approval",
            after="staging",
            since=NOW + start,
            soaked_at=NOW + start + 600,
            approval=True,
            expires_at=NOW + start + 7200,
            due=NOW + start + 7200,
        )
        late: dict[str, object] = {"started_at": None, "attempts": 0, "worker": ""}
        if self.outcome == "approved":
            at = NOW + start + 3600
            decision = Decision(outcome="approved", by=f"ada@host{self.hostile}", at=at, reason="looks good")
            late = {"started_at": at + 1, "finished_at": at + 3, "decision": decision}
        self.tasks[-1] = self.tasks[-1].model_copy(update={"promotion": promotion, **late})


def make_run(
    outcome: str = "success", modules: int = 4, mode: Mode = Mode.ASYNC, hostile: str = "", criteria: int = 6
) -> RunRecord:
    """A run that ended, or stands, as ``outcome`` says: see ``OUTCOMES`` in ``test_report.py``."""
    made = Made(modules, mode, outcome, hostile)
    tested = made.testing()
    generated = made.generation(tested)
    refactored = made.refactoring(tested if mode is Mode.ASYNC else generated)
    end = made.collection(max(generated, refactored))
    for environment in (Stage.STAGING, Stage.PRODUCTION):
        end = made.deployment(end, environment)
    texts = ("adds and subtracts", "`evaluate` honours precedence", "division by zero raises `DivisionError`")
    plan = RunPlan(
        id="r1",
        created_at=NOW,
        title=f"A calculator for the command line{hostile}",
        spec="calculator.md",
        repository="calculator",
        commit="0123456789abcdef0123456789abcdef01234567",
        component=made.component,
        criteria=tuple(Criterion(id=f"AC{i}", text=texts[i % 3] + hostile) for i in range(1, criteria + 1)),
        target=Target.PRODUCTION,
        mode=mode,
        gates=DEFAULT_GATES[Target.PRODUCTION],
        snapshot=DIGEST,
        warnings=(f"1 file was left out: it is a symlink that leads out{hostile}.",),
        task_ids=tuple(task.id for task in made.tasks),
    )
    return RunRecord(plan=plan, tasks=tuple(made.tasks), cancelled=outcome == "cancelled")


@pytest.fixture(name="make_run")
def _make_run() -> Callable[..., RunRecord]:
    return make_run
