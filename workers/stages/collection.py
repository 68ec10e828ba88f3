"""Puts what the other tasks made on one tree, verifies it, and keeps what holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tta_tasks import snapshot
from tta_tasks.errors import Cancelled
from tta_tasks.models import (
    CollectionRequest,
    CollectionResult,
    Dropped,
    ErrorInfo,
    GateOutcome,
    GenerationResult,
    RefactoringResult,
    Result,
    Status,
    SuiteReport,
    TestingResult,
    total_percent,
)
from tta_tasks.protocols import GateJob
from workers import gates
from workers.component.suite import run_suite
from workers.stages.context import Context
from workers.stages.merge import NOTHING, REFACTORING, Choice, Combination, settle


def run(request: CollectionRequest, context: Context) -> CollectionResult:
    """Combine and verify; a tree that does not pass its gates is stored all the same, to be looked at.

    A gate that asks for a person does not fail the collection: it holds the first deployment that follows
    (``workers/stages/promotion.py``).

    Raises:
        UnknownEngine: A gate that the component configures is not installed here.
    """
    gates.load(request.gates)  # one that is missing is noticed before the suite runs
    results = context.results(request.needs)
    before = next((result.suite for result in results if isinstance(result, TestingResult)), None)
    with context.workspace(request) as pristine:
        combination = Combination(pristine)
        _contribute(combination, results, context)
        trial = _Trials(combination, context)
        kept = _kept(trial, *settle(trial, combination.everything), request)
        with combination.assembled(kept.choice) as work:
            packed = snapshot.pack(
                work.root,
                max_bytes=context.settings.max_snapshot_bytes,
                max_files=context.settings.max_snapshot_files,
            )
        error = _error(kept.verdicts, request)
        return CollectionResult(
            status=Status.FAILED if error else Status.COMPLETED,
            error=error,
            tree=context.store.put(packed.data),
            tests_patch=_stored(combination.tests_patch(kept.choice), context),
            refactoring_patch=_stored(combination.refactoring_patch(kept.choice), context),
            dropped=(*combination.refused, *kept.dropped, *_disputed(kept.suite)),
            gates=kept.verdicts,
            suite=kept.suite,
            coverage_before=total_percent(before.coverage) if before and before.coverage else None,
            coverage_after=total_percent(kept.suite.coverage) if kept.suite.coverage else None,
        )


def _contribute(combination: Combination, results: tuple[Result, ...], context: Context) -> None:
    """Take what there is; a generation or refactoring that failed left nothing."""
    for result in results:
        if isinstance(result, GenerationResult) and result.patch:
            module = f"tests of {result.module.name}" if result.module else "tests"
            combination.add_tests(module, context.store.get(result.patch))
        elif isinstance(result, RefactoringResult) and result.patch:
            combination.add_refactoring(context.store.get(result.patch))


class _Trials:
    """Runs the suite on a tree with a choice of contributions, once for each choice."""

    def __init__(self, combination: Combination, context: Context) -> None:
        self._combination = combination
        self._context = context
        self._known: dict[Choice, SuiteReport] = {}

    def __call__(self, choice: Choice) -> SuiteReport:
        if choice not in self._known:
            count = len(choice.tests)
            self._context.progress(f"running the suite with {count} new file{'s' * (count != 1)}")
            with self._combination.assembled(choice) as work:
                self._known[choice] = run_suite(work, counted=True)
            if self._context.cancelled():  # what was cut short must not pass for a verdict
                raise Cancelled("The run was cancelled.")
        return self._known[choice]

    def judged(self, choice: Choice, request: CollectionRequest) -> tuple[GateOutcome, ...]:
        """Hold a choice against the gates, on a tree where nothing has run."""
        self._context.progress("holding the tree against its gates")
        added = tuple(test for test in choice.tests if test.endswith(".py"))
        suite = self(choice)
        with self._combination.assembled(choice) as tree, self._combination.assembled(NOTHING) as baseline:
            return gates.judge(GateJob(tree, baseline, suite, request.gates, added))


@dataclass(frozen=True)
class _Kept:
    """What is left in the end."""

    choice: Choice
    suite: SuiteReport
    dropped: list[Dropped]
    verdicts: tuple[GateOutcome, ...]


def _kept(
    trial: _Trials, choice: Choice, suite: SuiteReport, dropped: list[Dropped], request: CollectionRequest
) -> _Kept:
    """Hold what settled against the gates; a refactoring that makes one of them fail goes, too."""
    kept = _Kept(choice, suite, dropped, trial.judged(choice, request))
    of_the_source = {gate.name for gate in gates.load(request.gates) if gate.of_the_source}
    failed = _failed(kept.verdicts) & of_the_source
    if not (choice.refactoring and failed):
        return kept
    plain = replace(choice, refactoring=False)
    verdicts = trial.judged(plain, request)
    cured = sorted(failed - _failed(verdicts))
    if not cured or not trial(plain).green:
        return kept
    lost = Dropped(what=REFACTORING, reason=f"with it, the tree does not pass: {', '.join(cured)}")
    return _Kept(plain, trial(plain), [lost, *dropped], verdicts)


def _failed(verdicts: tuple[GateOutcome, ...]) -> set[str]:
    return {verdict.name for verdict in verdicts if verdict.outcome == "failed"}


def _disputed(suite: SuiteReport) -> list[Dropped]:
    """The modules some of whose lines are not believed to be covered."""
    why = "not counted as covered, since only coverage.py saw it executed, and a second count did not: line {}"
    modules = [module for module in suite.coverage if module.disputed_lines]
    return [
        Dropped(what=each.path, reason=why.format(", ".join(map(str, each.disputed_lines[:10])))) for each in modules
    ]


def _stored(patch: bytes, context: Context) -> str | None:
    return context.store.put(patch) if patch else None


def _error(verdicts: tuple[GateOutcome, ...], request: CollectionRequest) -> ErrorInfo | None:
    """What stops the tree, and what to do."""
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    if not failed:
        return None
    said = "; ".join(f"{verdict.name} {verdict.detail}" for verdict in failed)
    remedies = [verdict.remedy for verdict in failed]
    return ErrorInfo(
        type="GatesFailed",
        message=f"The tree does not pass the gates of {request.target.value}: {said}.",
        hint=f"Do one of these: {'; '.join(remedies)}; or ask for less in [tool.tta.gates] of pyproject.toml.",
    )
