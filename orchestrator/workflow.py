"""A run, from a spec to a result: plan it, hand it in, follow it, sum it up.

``run_workflow`` and ``WorkflowOrchestrator`` are the documented names for a Python program that wants one run done; the
command line uses the same steps one by one.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import canvas
from orchestrator.connect import connect
from orchestrator.prepare import Prepared, RunOptions, prepare
from orchestrator.report import Report, build_report
from tta_tasks import publishing, stack, tracing
from tta_tasks.client import TaskClient
from tta_tasks.errors import UsageError
from tta_tasks.ledger import GRACE_S
from tta_tasks.models import GenerationRequest, Mode, RunPlan, RunRecord, Stage, Status, Target, TaskRecord
from tta_tasks.settings import settings


def submit(prepared: Prepared, client: TaskClient) -> str:
    """Hand a prepared run in.

    Returns:
        Its id.

    Raises:
        ArtifactTooLarge: The snapshot is above the store's limit.
        StoreUnavailable: The store or the ledger does not answer.
        BrokerUnavailable: The broker does not answer.
    """
    plan = prepared.plan
    with tracing.submission(plan.id, plan.component.name, **{"tta.target": plan.target.value}):
        client.store_snapshot(prepared.snapshot)
        return hand_in(plan, prepared.tasks, client)


def hand_in(plan: RunPlan, tasks: canvas.Tasks, client: TaskClient) -> str:
    """Hand a run in whose snapshot is stored, so that what took longest the last time begins first.

    Returns:
        Its id.

    Raises:
        StoreUnavailable: The ledger does not answer.
        BrokerUnavailable: The broker does not answer.
    """
    ordered = canvas.longest_first(tasks, client.ledger.durations(plan.component.name))
    return client.submit_run(plan, ordered.all, canvas.compose(ordered, plan.mode, client.transport))


def resume(record: RunRecord, client: TaskClient) -> None:
    """Publish what is left of a run again, where whoever was to do it is gone.

    What has ended is not done again, what a living worker is doing goes on.

    Raises:
        UsageError: The run has ended, or was cancelled.
        BrokerUnavailable: The broker does not answer.
    """
    run_id = record.plan.id
    if record.status.terminal or record.cancelled:
        raise UsageError(f"Run {run_id} is {record.status}.", f"`tta retry {run_id}` does it once more.")
    local = stack.find(settings().state_dir)
    left: list[TaskRecord] = []
    for task in record.tasks:
        gone = local is not None and not task.worker.startswith(f"local-{local.pid}@")
        if task.status is Status.QUEUED and task.published_at:
            left.append(task)
        elif task.status is Status.RUNNING and (gone or task.lease_until < client.ledger.clock.now()):
            client.ledger.requeue(task, "resumed", delay_s=GRACE_S, worker=task.worker)
            left.append(task)
    publishing.publish(left)


def again(record: RunRecord) -> tuple[RunPlan, canvas.Tasks]:
    """The same run once more, as a new one; what it did before is answered from the result cache."""
    plan = record.plan.model_copy(update={"id": uuid.uuid4().hex[:12], "created_at": time.time()})
    first = next(task.request for task in record.tasks if isinstance(task.request, GenerationRequest))
    generation = canvas.Generation(
        engine=first.engine, coverage_threshold=first.coverage_threshold, budget_s=first.budget_s, seed=first.seed
    )
    tasks = canvas.tasks_of(plan, generation, record.tasks[0].priority)
    return plan.model_copy(update={"task_ids": tuple(task.id for task in tasks.all)}), tasks


@dataclass(frozen=True)
class WorkflowResult:
    """A finished run, summed up. Times are in milliseconds."""

    run_id: str
    component_name: str
    target_stage: str
    success: bool
    #: ``sync`` or ``async``.
    execution_mode: str
    stages_completed: tuple[str, ...]
    stages_failed: tuple[str, ...]
    #: Stage -> wall time from its first task's start to its last one's end.
    stage_timings: Mapping[str, float]
    #: Time until all tasks were accepted.
    openhands_submission_time_ms: float
    #: Time of the collection stage.
    openhands_collection_time_ms: float
    #: How much longer generation and refactoring would have taken one task after another.
    parallel_execution_savings_ms: float
    total_execution_time_ms: float
    #: The critical path on the slots there were: what no scheduler could be faster than.
    floor_ms: float
    report: Report


def summarize(record: RunRecord, submission_ms: float) -> WorkflowResult:
    """Sum a finished run up. Pure."""
    report = build_report(record)
    stages: dict[Stage, list[Status]] = {}
    for task in record.tasks:
        stages.setdefault(task.stage, []).append(task.status)
    completed = tuple(stage.value for stage, ends in stages.items() if all(end is Status.COMPLETED for end in ends))
    middle = [task for task in record.tasks if task.stage in {Stage.GENERATION, Stage.REFACTORING}]
    spans = [(task.started_at, task.finished_at) for task in middle if task.started_at and task.finished_at]
    wall = max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0.0
    work = sum(end - start for start, end in spans)
    timings = report.stage_timings
    return WorkflowResult(
        run_id=record.plan.id,
        component_name=record.plan.component.name,
        target_stage=record.plan.target,
        success=record.status is Status.COMPLETED,
        execution_mode=record.plan.mode,
        stages_completed=completed,
        stages_failed=tuple(stage.value for stage in stages if stage.value not in completed),
        stage_timings=timings,
        openhands_submission_time_ms=submission_ms,
        openhands_collection_time_ms=timings.get(Stage.COLLECTION, 0.0),
        parallel_execution_savings_ms=max(0.0, work - wall) * 1000,
        total_execution_time_ms=report.measured_s * 1000,
        floor_ms=report.floor_s * 1000,
        report=report,
    )


class WorkflowOrchestrator:
    """Brings one component from its spec to a target.

    Args:
        spec_file: The spec, Markdown.
        component_name: The component; by default what the spec names, or the only one there is.
        target_stage: ``dev``, ``staging`` or ``production``.
        config: ``enable_openhands_test_generation`` (insist on OpenHands agents), ``coverage_threshold`` (%),
            ``timeout_seconds`` (for the whole run), ``poll_interval_seconds`` (how long a lost notification may go
            unnoticed) and ``repository`` (by default the current folder).

    Raises:
        UsageError: ``target_stage`` or a key of ``config`` is unknown.
    """

    def __init__(
        self,
        spec_file: str | Path,
        component_name: str | None = None,
        target_stage: str = "staging",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        known = {
            "enable_openhands_test_generation",
            "coverage_threshold",
            "timeout_seconds",
            "poll_interval_seconds",
            "repository",
        }
        chosen = dict(config or {})
        if unknown := sorted(chosen.keys() - known):
            raise UsageError(f"Unknown in config: {', '.join(unknown)}.", f"Known: {', '.join(sorted(known))}.")
        if target_stage not in set(Target):
            raise UsageError(f"No target stage {target_stage!r}.", f"Known: {', '.join(Target)}.")
        self._spec_file = Path(spec_file)
        self._timeout_s = chosen.get("timeout_seconds")
        self._poll_s = float(chosen.get("poll_interval_seconds", 2.0))
        self._options = RunOptions(
            repository=Path(chosen.get("repository", ".")),
            component=component_name,
            target=Target(target_stage),
            engine="openhands" if chosen.get("enable_openhands_test_generation") else "auto",
            coverage=chosen.get("coverage_threshold"),
        )

    def run(self, on_update: Callable[[RunRecord], None] = lambda _record: None) -> WorkflowResult:
        """Do the tasks one after another, and wait for the end.

        Raises:
            TtaError: The run cannot be planned or handed in.
            TimeoutError: It took longer than ``timeout_seconds``; it was cancelled.
        """
        return self._run(Mode.SYNC, on_update)

    async def run_async_with_parallel_openhands(self) -> WorkflowResult:
        """Generate tests beside the refactoring, and wait for the end without blocking the event loop.

        When the awaiting task is cancelled, the run goes on; its thread ends within ``poll_interval_seconds``.

        Raises:
            TtaError: The run cannot be planned or handed in.
            TimeoutError: It took longer than ``timeout_seconds``; it was cancelled.
        """
        given_up = threading.Event()

        def check(_record: RunRecord) -> None:
            if given_up.is_set():
                raise asyncio.CancelledError

        try:
            return await asyncio.to_thread(self._run, Mode.ASYNC, check)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def _run(self, mode: Mode, on_update: Callable[[RunRecord], None]) -> WorkflowResult:
        limits = settings()
        prepared = prepare(self._spec_file, replace(self._options, mode=mode), limits)
        with connect() as client:
            started = time.monotonic()
            run_id = submit(prepared, client)
            submission_ms = (time.monotonic() - started) * 1000
            for record in client.watch(run_id, self._poll_s):
                on_update(record)
                if self._timeout_s is not None and time.monotonic() - started > self._timeout_s:
                    client.cancel_run(run_id)
                    raise TimeoutError(f"Run {run_id} took longer than {self._timeout_s} s and was cancelled.")
            return summarize(record, submission_ms)


def run_workflow(
    spec_file: str | Path,
    component_name: str | None = None,
    target_stage: str = "staging",
    config: Mapping[str, Any] | None = None,
) -> WorkflowResult:
    """Bring one component from its spec to a target, one task after another (see :class:`WorkflowOrchestrator`)."""
    return WorkflowOrchestrator(spec_file, component_name, target_stage, config).run()
