"""What must hold when all is over. Each check answers one sentence for each violation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import redis

from tests.chaos.held import held
from tests.chaos.load import expected
from tests.chaos.once import superseded
from tta_tasks.kinds import kind_of
from tta_tasks.ledger import Ledger
from tta_tasks.models import Status, TaskRecord
from tta_tasks.queues import NAMES

Entry = dict[str, Any]
ENDS = frozenset(status.value for status in Status if status.terminal)
#: Keys that are there as long as the installation: which queue listens to which exchange, and the list of runs.
LASTING = ("_kombu.binding", "runs")


def ended_as_they_must(
    ledger: Ledger, accepted: Mapping[str, str], seen: Mapping[str, Status], journal: Sequence[Entry]
) -> Iterator[str]:
    """Every accepted task has ended, once, and as its deed says; or was lost too often and given up.

    A release may have been turned away, too, as one that was begun later had come before it.
    """
    starts = Counter(entry["key"] for entry in journal if entry["what"] == "start")
    known = {task.id: task for task in ledger.tasks(accepted)}
    for task in known.values():
        told = [event.what for _, event in ledger.events(task.run_id or task.id) if event.task_id == task.id]
        ends = [what for what in told if what in ENDS]
        deed = accepted[task.id]
        if not task.status.terminal:
            yield f"{task.id} ({deed}) was accepted and is {task.status}: {task.progress}"
        elif len(ends) != 1:
            yield f"{task.id} ({deed}) ended {len(ends)} times: {told}"
        elif seen.get(task.id, task.status) is not task.status:
            yield f"{task.id} ({deed}) was seen {seen[task.id]} and is {task.status}"
        elif task.status is expected(deed) or (deed == "release" and superseded(task, known)):
            continue
        elif not (_given_up(task) and starts[task.id] >= kind_of(task.request).retry.max_losses):
            yield f"{task.id} ({deed}) is {task.status}, not {expected(deed)}: {task.result and task.result.error}"


def _given_up(task: TaskRecord) -> bool:
    return bool(task.result and task.result.error and task.result.error.message.startswith("Given up"))


def nothing_left(client: redis.Redis, prefix: str) -> Iterator[str]:
    """No message, open task, lease or lock is left in Redis, and every key expires."""
    for queue in NAMES:
        for key in client.scan_iter(f"{prefix}{queue}*"):
            yield f"{client.llen(key)} messages wait in {key.decode()}"
    yield from held(client, prefix)
    for name in ("unacked_index", *(f"open:{queue}" for queue in NAMES)):
        if client.exists(f"{prefix}{name}"):
            yield f"{prefix}{name} is left, with {_size(client, prefix + name)} entries"
    for key in client.scan_iter():
        name = key.decode().removeprefix(prefix)
        if client.ttl(key) == -1 and not name.startswith(LASTING):
            yield f"{key.decode()} never expires"


def _size(client: redis.Redis, key: str) -> int:
    return int(client.hlen(key) if client.type(key) == b"hash" else client.zcard(key))


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
