"""Tasks that are submitted: the arguments of ``accept.lua``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

from tta_tasks import publishing
from tta_tasks.errors import UsageError
from tta_tasks.models import TaskRecord
from tta_tasks.queues import list_of

#: Tasks accepted in one step.
BATCH: Final = 250
#: What most tasks have in common, and is sent once for all of a kind.
SHARED: Final = (
    *("version", "run_id", "name", "stage", "queue", "priority"),
    *("optional", "gated", "deadline"),
)
shared_of: Final = attrgetter(*SHARED)


@dataclass(frozen=True)
class Submission:
    """Tasks that are submitted together.

    Args:
        tasks: In the order in which those that can begin at once are published.
        requests: What each of them is asked to do, as JSON.
        after: Task -> tasks that end before it is published.
        prefix: Of the installation's keys.
        publishes: Whether the step that makes a task ready puts its message into its queue.
    """

    tasks: Sequence[TaskRecord]
    requests: Sequence[str]
    after: Mapping[str, Sequence[str]]
    prefix: str
    publishes: bool

    @cached_property
    def followers(self) -> dict[str, list[str]]:
        """Task -> those of these tasks that come after it."""
        found: dict[str, list[str]] = {task.id: [] for task in self.tasks}
        for task in self.tasks:
            for before in self.after[task.id]:
                if before in found:
                    found[before].append(task.id)
        return found

    def batches(self) -> Iterator[dict[str, Any]]:
        """The kinds and the tasks, some hundreds at a time."""
        for start in range(0, len(self.tasks), BATCH):
            kinds: dict[tuple[Any, ...], int] = {}
            tasks: list[Any] = []
            for task, request in zip(self.tasks[start : start + BATCH], self.requests[start:], strict=False):
                tasks.append(kinds.setdefault(shared_of(task), len(kinds) + 1))
                tasks += (task.id, task.label, publishing.label_of(task), request, *self._order(task.id))
            batch = [*(part for kind in kinds for part in self._kind(*kind)), *tasks]
            yield {"kinds": len(kinds), "batch": batch}

    def _kind(self, *values: Any) -> list[Any]:  # noqa: ANN401 - the values of different fields
        """A kind's queue, list, deadline, message and fields."""
        told = zip(SHARED, values, strict=True)
        fields = {name: value for name, value in told if value is not None and value is not False}
        name, queue, priority = fields["name"], fields["queue"], fields["priority"]
        list_ = list_of(self.prefix, queue, priority)
        message = publishing.message_of(name, queue, priority) if self.publishes else ()
        pairs = [str(int(part) if isinstance(part, bool) else part) for pair in fields.items() for part in pair]
        return [queue, list_, fields.get("deadline", ""), len(message), *message, len(pairs), *pairs]

    def _order(self, task_id: str) -> tuple[int, str, str]:
        """How many of these tasks come before it, which earlier ones do, and which of these come after it."""
        before, after = self.after[task_id], self.followers[task_id]
        earlier = [other for other in before if other not in self.followers] if before else ()
        return len(before) - len(earlier), _spaced(earlier), _spaced(after)


def _spaced(ids: Sequence[str]) -> str:
    return "".join(f"{task_id} " for task_id in ids)


def dumped(tasks: Sequence[TaskRecord], most_bytes: int | None) -> list[str]:
    """The requests of ``tasks`` as JSON.

    Raises:
        UsageError: One of them has more than ``most_bytes``.
    """
    requests = [task.request.model_dump_json() for task in tasks]
    for task, request in zip(tasks, requests, strict=True):
        if most_bytes is not None and len(request) > most_bytes:
            raise UsageError(
                f"The request {task.label!r} has {len(request)} bytes, more than {most_bytes}.",
                "Put large data into the artifact store and send its digest, or raise TTA_MAX_REQUEST_BYTES.",
            )
    return requests
