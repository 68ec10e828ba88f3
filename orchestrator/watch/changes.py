"""What is new in a run's record, compared to the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.report.wording import change, parked
from tta_tasks.models import (
    CollectionResult,
    DeploymentResult,
    GenerationResult,
    RefactoringResult,
    RunRecord,
    Status,
    TaskRecord,
    TestingResult,
)


@dataclass(frozen=True)
class Change:
    """A task that has another status, or says something else of itself."""

    task: TaskRecord
    #: Seconds since the run was submitted.
    at_s: float
    #: Whether its status changed, or what it is parked for; not just what it says.
    status: bool


def changes(before: RunRecord | None, now: RunRecord) -> Iterator[Change]:
    """Every change from ``before`` to ``now``, in the order in which they happened."""
    known = {task.id: task for task in before.tasks} if before else {}
    start = min((task.submitted_at for task in now.tasks), default=now.plan.created_at)
    found: list[Change] = []
    for task in now.tasks:
        old = known.get(task.id)
        if task.status is Status.QUEUED and old is None:
            continue
        status = old is None or _standing(old) != _standing(task)
        if status or (old and task.progress and old.progress != task.progress):
            found.append(Change(task, _moment(task) - start, status))
    yield from sorted(found, key=lambda item: item.at_s)


def _standing(task: TaskRecord) -> tuple[Status, str, bool]:
    """Where a task stands; for a parked one also what it waits for, and whether it was decided on."""
    waits_for = task.promotion.waits_for if task.promotion else ""
    return (task.status, waits_for, task.decision is not None)


def _moment(task: TaskRecord) -> float:
    """When a task came to stand where it does."""
    if task.status is Status.PARKED and task.promotion is not None:
        return task.promotion.soaked_at if task.promotion.waits_for == "approval" else task.promotion.since
    return task.finished_at or task.started_at or (task.decision.at if task.decision else task.submitted_at)


def outcome(task: TaskRecord) -> str:
    """What came of a task, in a few words; for an unfinished one what it does now, or waits for."""
    result = task.result
    if result is None:
        return parked(task) or task.progress
    if result.error:
        return result.error.message
    match result:
        case TestingResult(suite=suite) if suite:
            words = f"{suite.passed} passed" + (f", {suite.failed + suite.errors} failed" if not suite.green else "")
        case GenerationResult():
            before, after = result.coverage_before, result.coverage_after
            words = f"{len(result.accepted)} tests, " + change(
                before.percent if before else None, after.percent if after else None
            )
        case RefactoringResult():
            kept = sum(step.outcome == "kept" for step in result.steps)
            words = f"{kept} kept, {sum(step.outcome == 'dropped' for step in result.steps)} dropped"
        case CollectionResult():
            failed = [gate.name for gate in result.gates if gate.outcome == "failed"]
            words = f"{', '.join(failed)} failed" if failed else change(result.coverage_before, result.coverage_after)
        case DeploymentResult():
            words = result.action.replace("_", " ")
        case _:
            words = ""
    return f"{words}, cached" if result.cached else words
