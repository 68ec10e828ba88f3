"""Builds the report from a run's record. Pure: the same record gives the same report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from orchestrator.report.model import CriterionSummary, ModuleSummary, ReleaseSummary, Report, StageSummary
from orchestrator.report.wording import parked
from orchestrator.timeline import floor_s, measured_s, parked_s, slots_of, spans_of, stage_timings
from tta_tasks.models import (
    CollectionResult,
    DeploymentRequest,
    DeploymentResult,
    Dropped,
    GateOutcome,
    GenerationRequest,
    GenerationResult,
    Module,
    ModuleCoverage,
    RefactoringResult,
    Result,
    RunRecord,
    Stage,
    Status,
    SuiteReport,
    Target,
    TaskRecord,
    TestFailure,
    TestingResult,
    Usage,
    ongoing,
    total_percent,
)

R = TypeVar("R", bound=Result)


def build_report(record: RunRecord, slots: int | None = None) -> Report:
    """Sum up ``record``, finished or not.

    Args:
        record: The run as the ledger knows it.
        slots: Worker slots there were for generation; by default as many as the record shows.
    """
    plan = record.plan
    spans = spans_of(record)
    slots = slots or slots_of(record)
    testing = _result(record.tasks, TestingResult)
    collection = _result(record.tasks, CollectionResult)
    refactoring = _result(record.tasks, RefactoringResult)
    modules = tuple(_modules(record, testing, collection))
    stages = tuple(_stages(record.tasks, timings := stage_timings(spans)))
    releases = tuple(_release(task) for task in record.tasks if isinstance(task.request, DeploymentRequest))
    before, after = _coverage(testing, collection)
    baseline = testing.suite if testing else None
    return Report(
        run_id=plan.id,
        title=plan.title,
        spec=plan.spec,
        repository=plan.repository,
        commit=plan.commit,
        component=plan.component,
        target=plan.target,
        mode=plan.mode,
        status=record.status,
        verdict=_verdict(record, testing, collection, releases),
        created_at=plan.created_at,
        python=testing.python if testing else "",
        sandbox=testing.sandbox if testing else "",
        measured_s=measured_s(record),
        parked_s=parked_s(record),
        floor_s=floor_s(spans, slots),
        slots=slots,
        stage_timings=timings,
        timeline=spans,
        coverage_before=before,
        coverage_after=after,
        coverage_threshold=plan.gates.coverage,
        tests_before=baseline.total if baseline else None,
        tests_accepted=sum(len(module.accepted) for module in modules),
        tests_rejected=sum(len(module.rejected) for module in modules),
        cached_tasks=sum(span.cached for span in spans),
        usage=_usage(record.tasks),
        stages=stages,
        modules=modules,
        criteria=tuple(_criteria(record, modules)),
        refactoring=refactoring.steps if refactoring else (),
        gates=collection.gates if collection else (),
        dropped=collection.dropped if collection else (),
        releases=releases,
        failures=_failures(testing, collection),
        warnings=tuple(_warnings(record)),
    )


def _result(tasks: Iterable[TaskRecord], kind: type[R]) -> R | None:
    return next((task.result for task in tasks if isinstance(task.result, kind)), None)


def _error(task: TaskRecord) -> str:
    error = task.result.error if task.result else None
    return f"{error.message} {error.hint}".strip() if error else ""


def _usage(tasks: Iterable[TaskRecord]) -> Usage:
    results = (task.result for task in tasks)
    taken = (each.usage for each in results if isinstance(each, GenerationResult | RefactoringResult))
    return sum(taken, Usage())


def _duration(task: TaskRecord) -> float | None:
    if task.started_at is None or task.finished_at is None or task.status is Status.SKIPPED:
        return None
    return max(task.finished_at - task.started_at, 0.0)


# -- stages -----------------------------------------------------------------------------------------------------------


def _stages(tasks: Sequence[TaskRecord], timings: dict[str, float]) -> Iterable[StageSummary]:
    for stage in Stage:
        members = [task for task in tasks if task.stage is stage]
        if members:
            yield StageSummary(
                stage=stage,
                status=stage_status([task.status for task in members]),
                tasks=len(members),
                completed=sum(task.status is Status.COMPLETED for task in members),
                cached=sum(task.result is not None and task.result.cached for task in members),
                duration_s=timings[stage] / 1000 if stage in timings else None,
                errors=tuple(_errors(members)),
            )


def _errors(tasks: Sequence[TaskRecord]) -> Iterable[str]:
    """Why tasks failed; a reason that several have is given once."""
    reasons: dict[str, list[str]] = {}
    for task in tasks:
        if task.status is Status.FAILED:
            reasons.setdefault(_error(task) or "failed", []).append(task.label)
    for reason, labels in reasons.items():
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        yield f"{labels[0]}{others}: {reason}"


def stage_status(statuses: Sequence[Status]) -> Status:
    """One status for a stage of several tasks: what is going on now, else the worst end."""
    if not all(status.terminal for status in statuses):
        return ongoing(statuses)
    for worst in (Status.FAILED, Status.CANCELLED, Status.SKIPPED):
        if worst in statuses:
            return worst
    return Status.COMPLETED


# -- modules ----------------------------------------------------------------------------------------------------------


def _modules(
    record: RunRecord, testing: TestingResult | None, collection: CollectionResult | None
) -> Iterable[ModuleSummary]:
    root = record.plan.component.root
    baseline = _by_path(testing.suite if testing else None)
    combined = _by_path(collection.suite if collection else None)
    dropped = collection.dropped if collection else ()
    for task in record.tasks:
        if isinstance(task.request, GenerationRequest):
            yield _module(task, task.request.module, root, baseline, combined, dropped)


def _module(  # noqa: PLR0917 - what the stages before and after say of one module
    task: TaskRecord,
    module: Module,
    root: str,
    baseline: dict[str, ModuleCoverage],
    combined: dict[str, ModuleCoverage],
    dropped: Sequence[Dropped],
) -> ModuleSummary:
    result = task.result if isinstance(task.result, GenerationResult) else GenerationResult(status=task.status)
    lost = [item.reason for item in dropped if item.what in result.files]
    paths = (module.path, module.path if root == "." else f"{root}/{module.path}")
    before = next((baseline[path] for path in paths if path in baseline), result.coverage_before)
    after = next((combined[path] for path in paths if path in combined), None)
    if after is None and not lost:
        after = result.coverage_after
    return ModuleSummary(
        name=module.name,
        path=module.path,
        status=task.status,
        before=before.percent if before else None,
        after=after.percent if after else None,
        accepted=() if lost else tuple(test.name for test in result.accepted),
        rejected=result.rejected,
        engines=result.engines,
        cached=result.cached,
        threshold_met=result.threshold_met,
        duration_s=_duration(task),
        files=result.files,
        note=f"Dropped in collection: {'; '.join(lost)}" if lost else _error(task) or " ".join(result.notes),
        usage=result.usage,
        rounds=result.rounds,
    )


def _by_path(suite: SuiteReport | None) -> dict[str, ModuleCoverage]:
    return {module.path: module for module in suite.coverage} if suite else {}


def _coverage(testing: TestingResult | None, collection: CollectionResult | None) -> tuple[float | None, float | None]:
    before = collection.coverage_before if collection else None
    if before is None and testing and testing.suite and testing.suite.coverage:
        before = total_percent(testing.suite.coverage)
    return before, collection.coverage_after if collection else None


def _criteria(record: RunRecord, modules: Sequence[ModuleSummary]) -> Iterable[CriterionSummary]:
    kept = {module.name: set(module.accepted) for module in modules}
    results = [task.result for task in record.tasks if isinstance(task.result, GenerationResult)]
    for criterion in record.plan.criteria:
        tests = tuple(
            f"{result.module.name}::{test.name}"
            for result in results
            if result.module
            for test in result.accepted
            if criterion.id in test.criteria and test.name in kept.get(result.module.name, ())
        )
        yield CriterionSummary(criterion=criterion, tests=tests)


# -- the end ----------------------------------------------------------------------------------------------------------


def _release(task: TaskRecord) -> ReleaseSummary:
    request, result = task.request, task.result
    environment = request.environment if isinstance(request, DeploymentRequest) else ""
    done = result if isinstance(result, DeploymentResult) else DeploymentResult(status=task.status)
    return ReleaseSummary(
        environment=environment,
        status=task.status,
        action=done.action,
        location=done.location,
        release=done.release or "",
        previous=done.previous or "",
        checks=tuple((f"{check.name}: {check.detail}".rstrip(": "), check.ok) for check in done.checks),
        error=_error(task),
        waits=parked(task),
        promotion=task.promotion,
        decision=task.decision,
    )


def _failures(testing: TestingResult | None, collection: CollectionResult | None) -> tuple[TestFailure, ...]:
    for result in (testing, collection):
        if result and result.suite and result.suite.failures:
            return result.suite.failures
    return ()


def _warnings(record: RunRecord) -> Iterable[str]:
    yield from record.plan.warnings
    if not record.plan.criteria:
        yield "The spec lists no acceptance criteria, so no test is tied to one."
    for task in record.tasks:
        if isinstance(task.result, GenerationResult | RefactoringResult):
            yield from (f"{task.label}: {note}" for note in task.result.notes)
    again = [task for task in record.tasks if task.attempts > 1]
    if again:
        yield f"Begun more than once: {', '.join(f'{task.label} ({task.attempts} times)' for task in again)}."


def _verdict(
    record: RunRecord,
    testing: TestingResult | None,
    collection: CollectionResult | None,
    releases: Sequence[ReleaseSummary],
) -> str:
    if record.status is Status.COMPLETED:
        return _success(record, collection, releases)
    if record.status is Status.CANCELLED:
        return "The run was cancelled."
    if record.status is Status.PARKED:
        held = "; ".join(f"Parked: {task.label} {words}." for task in record.tasks if (words := parked(task)))
        return f"{held} {_asked(record, collection)}".rstrip()
    if not record.status.terminal:
        return "The run is not finished."
    return _failure(record, testing, collection)


def _failure(record: RunRecord, testing: TestingResult | None, collection: CollectionResult | None) -> str:
    if testing and testing.suite and not testing.suite.green:
        return _red(testing.suite)
    if collection and (failed := [gate for gate in collection.gates if gate.outcome == "failed"]):
        return f"Stopped by {_gates(failed)}."
    for task in record.tasks:
        if task.status is Status.FAILED and not task.optional:
            return f"Failed: {task.label}. {_error(task)}".rstrip()
    return "Failed."


def _success(record: RunRecord, collection: CollectionResult | None, releases: Sequence[ReleaseSummary]) -> str:
    if record.plan.target is Target.DEV:
        asked = _asked(record, collection)
        return f"Tests and refactoring hold together{f'. {asked}' if asked else '; every gate passed.'}"
    places = " and ".join(release.environment for release in releases)
    if releases and all(release.action == "unchanged" for release in releases):
        return f"Already live in {places}; nothing had to change."
    return f"Live in {places}."


def _asked(record: RunRecord, collection: CollectionResult | None) -> str:
    """What gates ask a person to decide, until a person has decided; empty for nothing."""
    if collection is None or any(task.decision for task in record.tasks):
        return ""
    asking = [gate for gate in collection.gates if gate.outcome == "parked"]
    return " ".join(f"The gate {gate.name} asks a person to {gate.waits_for}." for gate in asking)


def _red(suite: SuiteReport) -> str:
    if suite.aborted:
        return f"The component's own tests did not finish: {suite.aborted}."
    broken = suite.failed + suite.errors
    return f"The component's own tests fail before anything was changed: {broken} of {suite.total}."


def _gates(failed: Sequence[GateOutcome]) -> str:
    noun = "the gate" if len(failed) == 1 else "the gates"
    return f"{noun} {', '.join(f'{gate.name} ({gate.detail})' for gate in failed)}"
