"""What must hold when all is over. Each check answers one sentence for each violation."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import redis

from tests.chaos.load import expected
from tta_tasks.ledger import Ledger
from tta_tasks.models import Status, TaskRecord
from tta_tasks.queues import NAMES, Priority
from tta_tasks.tasks import MAX_LOSSES

Entry = dict[str, Any]
ENDS = frozenset(status.value for status in Status if status.terminal)
#: Keys that are there as long as the installation: which queue listens to which exchange, and the list of runs.
LASTING = ("_kombu.binding", "runs")


def ended_as_they_must(
    ledger: Ledger, accepted: Mapping[str, str], seen: Mapping[str, Status], journal: Sequence[Entry]
) -> Iterator[str]:
    """Every accepted task has ended, once, and as its deed says; or was lost too often and given up."""
    starts = Counter(entry["key"] for entry in journal if entry["what"] == "start")
    for task in ledger.tasks(accepted):
        told = [event.what for _, event in ledger.events(task.run_id or task.id) if event.task_id == task.id]
        ends = [what for what in told if what in ENDS]
        deed = accepted[task.id]
        if not task.status.terminal:
            yield f"{task.id} ({deed}) was accepted and is {task.status}: {task.progress}"
        elif len(ends) != 1:
            yield f"{task.id} ({deed}) ended {len(ends)} times: {told}"
        elif seen.get(task.id, task.status) is not task.status:
            yield f"{task.id} ({deed}) was seen {seen[task.id]} and is {task.status}"
        elif task.status is not expected(deed) and not (_given_up(task) and starts[task.id] >= MAX_LOSSES):
            yield f"{task.id} ({deed}) is {task.status}, not {expected(deed)}: {task.result and task.result.error}"


def _given_up(task: TaskRecord) -> bool:
    return bool(task.result and task.result.error and task.result.error.message.startswith("Given up"))


def released_once(ledger: Ledger, accepted: Mapping[str, str], journal: Sequence[Entry]) -> Iterator[str]:
    """Each deployment that was reported as completed happened once."""
    releases = Counter(entry["key"] for entry in journal if entry["what"] == "released")
    yield from (f"{key} was released {count} times" for key, count in releases.items() if count > 1)
    for task in ledger.tasks(task_id for task_id, deed in accepted.items() if deed == "release"):
        environment = getattr(task.request, "environment", "")
        if task.status is Status.COMPLETED and not releases[f"{task.run_id or task.id}-{environment}"]:
            yield f"{task.id} is completed, but nothing was released"


def nothing_left(client: redis.Redis, prefix: str) -> Iterator[str]:
    """No message, open task, lease or lock is left in Redis, and every key expires."""
    for queue in NAMES:
        for key in client.scan_iter(f"{prefix}{queue}*"):
            yield f"{client.llen(key)} messages wait in {key.decode()}"
    for name in ("unacked", "unacked_index", *(f"open:{queue}" for queue in NAMES)):
        if client.exists(f"{prefix}{name}"):
            yield f"{prefix}{name} is left, with {_size(client, prefix + name)} entries"
    for key in client.scan_iter():
        name = key.decode().removeprefix(prefix)
        if client.ttl(key) == -1 and not name.startswith(LASTING):
            yield f"{key.decode()} never expires"


def _size(client: redis.Redis, key: str) -> int:
    return int(client.hlen(key) if client.type(key) == b"hash" else client.zcard(key))


def overtaken(ledger: Ledger, accepted: Mapping[str, str]) -> list[int]:
    """For each CRITICAL task on its own whose message was not lost: how many less urgent ones began before it.

    Counted are those of its queue that were begun while it waited, so that the figure is of order, not of time.
    """
    waited: list[int] = []
    queues: dict[str, list[TaskRecord]] = defaultdict(list)
    for task in ledger.tasks(accepted):
        if task.started_at is not None:
            queues[task.queue].append(task)
    for tasks in queues.values():
        for task in tasks:
            if task.priority == Priority.CRITICAL and not task.published_at and not task.run_id:
                begun = (other.started_at or 0.0 for other in tasks if other.priority != Priority.CRITICAL)
                waited.append(sum(task.submitted_at < at < (task.started_at or 0.0) for at in begun))
    return waited


def executions(journal: Sequence[Entry], deeds: Mapping[str, str]) -> dict[str, int]:
    """How often work was begun, and of what is done at the first try: again, to its end again, and twice at once."""
    ended = {(entry["key"], entry["attempt"]): float(entry["at"]) for entry in journal if entry["what"] == "end"}
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry in journal:
        if entry["what"] == "start":
            began = float(entry["at"])
            spans[entry["key"]].append((began, ended.get((entry["key"], entry["attempt"]), began)))
    ends = Counter(key for key, _ in ended)
    once = [key for key, deed in deeds.items() if deed in {"short", "long", "release"}]
    return {
        "begun": sum(map(len, spans.values())),
        "begun again": sum(max(0, len(spans[key]) - 1) for key in once),
        "done again": sum(max(0, ends[key] - 1) for key in once),
        "done twice at once": sum(_overlap(spans[key]) for key in once),
    }


def _overlap(spans: Sequence[tuple[float, float]]) -> bool:
    ordered = sorted(spans)
    return any(later[0] < earlier[1] for earlier, later in pairwise(ordered))


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and largest."""
    return {"median": statistics.median(values), "most": max(values), "of": len(values)} if values else {}
