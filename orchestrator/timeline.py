"""When a run's tasks ran, which of them the run waited for, and how fast it could have been. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tta_tasks.models import Model, Promotion, RunRecord, Stage, Status, TaskRecord

#: Clocks of hosts differ a little, and a message takes a moment: a task that began this much before another one ended
#: may still have waited for it.
_TOLERANCE_S = 0.05

_DEPLOYMENTS = (Stage.STAGING, Stage.PRODUCTION)


class Span(Model):
    """When a task ran. Seconds from the run's start, without those that it was parked."""

    task_id: str
    label: str
    stage: Stage
    status: Status
    worker: str
    attempts: int
    cached: bool
    #: When nothing but a free worker was missing.
    ready_s: float
    started_s: float
    #: Its end, or the latest moment known of the run while it has none.
    finished_s: float
    #: Whether the run's end had to wait for it.
    critical: bool = False

    @property
    def duration_s(self) -> float:
        """How long it ran."""
        return self.finished_s - self.started_s

    @property
    def wait_s(self) -> float:
        """How long it stood in its queue."""
        return self.started_s - self.ready_s


def spans_of(record: RunRecord) -> tuple[Span, ...]:
    """The tasks of ``record`` that had work to do and were begun, in its order, with the critical path marked."""
    origin, now = _start(record), _latest(record)
    ends = {task.id: task.finished_at for task in record.tasks}

    def span(task: TaskRecord, started: float) -> Span:
        ready = max([task.submitted_at, *(end for need in task.request.needs if (end := ends.get(need)) is not None)])
        begin = origin
        if task.promotion is not None:
            ready = _released(task, task.promotion)
            begin += max(ready - task.promotion.since, 0.0)
        return Span(
            task_id=task.id,
            label=task.label,
            stage=task.stage,
            status=task.status,
            worker=task.worker,
            attempts=task.attempts,
            cached=task.result is not None and task.result.cached,
            ready_s=round(min(ready, started) - begin, 3),
            started_s=round(started - begin, 3),
            finished_s=round(max(task.finished_at or now, started) - begin, 3),
        )

    begun = [task for task in record.tasks if task.status is not Status.SKIPPED]
    spans = [span(task, task.started_at) for task in begun if task.started_at is not None]
    critical = _critical_path(spans)
    return tuple(item.model_copy(update={"critical": item.task_id in critical}) for item in spans)


def measured_s(record: RunRecord) -> float:
    """Seconds from the submission of the first task to the end of the last."""
    return round(_latest(record) - _start(record), 3)


def parked_s(record: RunRecord) -> float:
    """Seconds that the run was parked."""
    now = _latest(record)
    waits = [
        min(task.finished_at or now, _released(task, task.promotion) if task.started_at else now) - task.promotion.since
        for task in record.tasks
        if task.promotion is not None
    ]
    return round(sum(max(wait, 0.0) for wait in waits), 3)


def _released(task: TaskRecord, terms: Promotion) -> float:
    """From when a task that was parked only needed a worker."""
    return max(terms.soaked_at, terms.since, task.decision.at if task.decision else 0.0)


def stage_timings(spans: Iterable[Span]) -> dict[str, float]:
    """Stage -> milliseconds from the start of its first task to the end of its last."""
    stages: dict[str, list[Span]] = {}
    for span in spans:
        stages.setdefault(span.stage.value, []).append(span)
    return {
        stage: round(1000 * (max(span.finished_s for span in members) - min(span.started_s for span in members)), 1)
        for stage, members in stages.items()
    }


def floor_s(spans: Sequence[Span], slots: int) -> float:
    """The least time the work of ``spans`` can take on ``slots`` workers, however it is scheduled.

    Testing, then the longest of: the longest module, all modules spread over the slots, the refactoring; then
    collection and the deployments.
    """

    def durations(*stages: Stage) -> list[float]:
        return [span.duration_s for span in spans if span.stage in stages]

    modules = durations(Stage.GENERATION)
    middle = max(max(modules, default=0.0), sum(modules) / max(slots, 1), sum(durations(Stage.REFACTORING)))
    return round(sum(durations(Stage.TESTING, Stage.COLLECTION, *_DEPLOYMENTS)) + middle, 3)


def slots_of(record: RunRecord) -> int:
    """How many tasks at once the workers that generated can do together."""
    slots = {task.worker: task.slots for task in record.tasks if task.stage is Stage.GENERATION and task.worker}
    return max(sum(slots.values()), 1)


def _start(record: RunRecord) -> float:
    return min((task.submitted_at for task in record.tasks), default=record.plan.created_at)


def _latest(record: RunRecord) -> float:
    moments = [moment for task in record.tasks for moment in (task.started_at, task.finished_at) if moment is not None]
    return max([*moments, _start(record)])


def _critical_path(spans: Sequence[Span]) -> set[str]:
    """Back from the last end: before each task, the one whose end it began after, be it for a result or a worker."""
    path: set[str] = set()
    current = max(spans, key=lambda span: span.finished_s, default=None)
    while current is not None:
        path.add(current.task_id)
        start = current.started_s
        before = [s for s in spans if s.task_id not in path and s.finished_s <= start + _TOLERANCE_S]
        before = [s for s in before if s.started_s < start]
        current = max(before, key=lambda span: span.finished_s, default=None)
    return path
