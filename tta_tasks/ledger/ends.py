"""The stream of ends: the runs and tasks that have ended, for observers.

<prefix>ends  stream  each end of a run or task, appended by the step that ends it (``finish.lua``), bounded

The stream exists while there are observers, and ``retention_s`` longer. Each observer is a consumer group: Redis keeps
what the observer has fetched and not acknowledged, and counts. Fetching counts as one delivery there, each attempt as
another. The group is created before its worker claims the first task; from then on every end is delivered at least
once, unless more than ``max_ends`` wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from tta_tasks.connection import translated
from tta_tasks.errors import RecordMissing, RecordUnreadable
from tta_tasks.ledger.queries import Queries
from tta_tasks.ledger.records import entries
from tta_tasks.models import End, RunEnd, Status, TaskEnd

#: The one consumer of each group: whichever worker is elected.
CONSUMER: Final = "elected"
#: Most ends read at once.
BATCH: Final = 100


@dataclass(frozen=True)
class Pending:
    """An end that an observer has fetched and not acknowledged."""

    #: Position in the stream.
    id: str
    #: Attempts so far to deliver it.
    attempts: int
    #: Seconds since the last one, or since it was fetched.
    idle_s: float


class Ends(Queries):
    """The ends that observers have not acknowledged."""

    @property
    def _key(self) -> str:
        return f"{self._prefix}ends"

    def open(self, observer: str, *, start: str = "$") -> None:
        """Keep ends for ``observer``, for ``retention_s`` from now; an open one continues where it was.

        Args:
            observer: Its name.
            start: Position after which ends are kept for it, if it is not open or the stream has expired: from now on,
                or ``0`` for all that are in the stream.
        """
        with translated(self._url):
            try:
                self._redis.xgroup_create(self._key, observer, start, mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._redis.expire(self._key, self._settings.retention_s)

    def fetch(self, observer: str, wait_s: float, *, tasks: bool) -> None:
        """Fetch new ends for ``observer``; wait up to ``wait_s`` for one.

        Args:
            observer: Its name.
            wait_s: Seconds.
            tasks: Whether it is notified of tasks; else their ends are acknowledged at once.
        """
        block = max(1, int(wait_s * 1000))
        with translated(self._url):
            answer: Any = self._redis.xreadgroup(observer, CONSUMER, {self._key: ">"}, count=BATCH, block=block)
            unwanted = [] if tasks else [position for position, fields in entries(answer) if fields[b"task_id"]]
            if unwanted:
                self._redis.xack(self._key, observer, *unwanted)

    def pending(self, observer: str) -> Iterator[Pending]:
        """What ``observer`` has fetched and not acknowledged, oldest first."""
        start = "-"
        while True:
            with translated(self._url):
                found: Any = self._redis.xpending_range(self._key, observer, start, "+", BATCH)
            for item in found:
                position, fetched = item["message_id"].decode(), item["times_delivered"]
                yield Pending(position, fetched - 1, item["time_since_delivered"] / 1000)
                start = f"({position}"
            if len(found) < BATCH:
                return

    def begin(self, observer: str, pending: Pending) -> dict[bytes, bytes] | None:
        """Count one more attempt to deliver ``pending``; return its fields, ``None`` if the stream has lost them."""
        with translated(self._url):
            claimed: Any = self._redis.xclaim(self._key, observer, CONSUMER, 0, [pending.id])
        return claimed[0][1] or None if claimed else None

    def acknowledge(self, observer: str, pending: Sequence[Pending]) -> None:
        """Record that nothing of ``pending`` is delivered to ``observer`` again."""
        if pending:
            with translated(self._url):
                self._redis.xack(self._key, observer, *(each.id for each in pending))

    def end_of(self, pending: Pending, fields: dict[bytes, bytes]) -> End:
        """The end in ``fields``, with what the ledger still knows of it.

        Raises:
            ValueError: Another version wrote it, with a status that is unknown here.
        """
        text = {name.decode(): value.decode() for name, value in fields.items()}
        facts: dict[str, Any] = {"id": pending.id, "at": float(text["at"]), "status": Status(text["status"])}
        facts["run_id"], task_id = text["run_id"], text["task_id"]
        try:
            return self._of_task(facts, task_id) if task_id else self._of_run(facts)
        except (RecordMissing, RecordUnreadable):
            return TaskEnd(**facts, task_id=task_id) if task_id else RunEnd(**facts)

    def _of_task(self, facts: dict[str, Any], task_id: str) -> TaskEnd:
        task = self.task(task_id)
        known = {name: getattr(task, name) for name in ("name", "stage", "label", "worker", "attempts")}
        return TaskEnd(**facts, **known, task_id=task_id, error=task.result.error if task.result else None)

    def _of_run(self, facts: dict[str, Any]) -> RunEnd:
        plan = self.plan(facts["run_id"])
        known = {name: getattr(plan, name) for name in ("title", "target", "repository", "commit", "created_at")}
        return RunEnd(**facts, **known, component=plan.component.name)
