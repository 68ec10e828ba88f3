"""The stream of ends: what has ended, for observers.

<prefix>ends  stream  each end of a run or task, appended by the step that ends it (``finish.lua``), bounded

The stream exists while there are observers, and ``retention_s`` longer. Each observer is a consumer group of its own:
Redis keeps what it has been given and has not acknowledged, and how often it was given that. A group is created before
its worker takes the first task; from then on every end is delivered at least once, unless more than ``max_ends`` wait.
"""

from __future__ import annotations

from collections.abc import Sequence
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
#: Most ends taken at once.
BATCH: Final = 100


@dataclass(frozen=True)
class Delivery:
    """An end that an observer is to be told; :meth:`Ends.end_of` reads what it is about."""

    #: Position in the stream.
    id: str
    #: Which attempt this is; the first is 1.
    attempt: int
    at: float
    status: Status
    #: Empty for a task of no run.
    run_id: str
    #: Empty for a run.
    task_id: str


class Ends(Queries):
    """The ends that observers have not acknowledged yet."""

    @property
    def _key(self) -> str:
        return f"{self._prefix}ends"

    def open(self, observer: str, *, start: str = "$") -> None:
        """Keep ends for ``observer``, for ``retention_s`` from now; one that has been opened goes on where it was.

        Args:
            observer: Its name.
            start: Position after which ends are kept for it, where it has not been opened, or the stream has expired:
                from now on, or ``0`` for all that are there.
        """
        with translated(self._url):
            try:
                self._redis.xgroup_create(self._key, observer, start, mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._redis.expire(self._key, self._settings.retention_s)

    def new(self, observer: str, wait_s: float) -> list[Delivery]:
        """Ends that ``observer`` was never told, oldest first; waits up to ``wait_s`` for one."""
        block = max(1, int(wait_s * 1000))
        with translated(self._url):
            answer: Any = self._redis.xreadgroup(observer, CONSUMER, {self._key: ">"}, count=BATCH, block=block)
        return [_delivery(position, fields, 1) for position, fields in entries(answer)]

    def again(self, observer: str, delays_s: Sequence[float]) -> tuple[list[Delivery], int]:
        """Ends whose delivery failed, or was cut short, and that are due once more.

        Args:
            observer: Its name.
            delays_s: Seconds between one attempt and the next; after the last one an end is given up.

        Returns:
            What is due, and how many were given up.
        """
        with translated(self._url):
            found: Any = self._redis.xpending_range(self._key, observer, "-", "+", BATCH)
            given_up = [item["message_id"] for item in found if item["times_delivered"] > len(delays_s)]
            if given_up:
                self._redis.xack(self._key, observer, *given_up)
            attempts = {
                item["message_id"]: item["times_delivered"] + 1
                for item in found
                if item["times_delivered"] <= len(delays_s)
                and item["time_since_delivered"] >= 1000 * delays_s[item["times_delivered"] - 1]
            }
            claimed: Any = self._redis.xclaim(self._key, observer, CONSUMER, 0, list(attempts)) if attempts else []
        return [_delivery(position, fields, attempts[position]) for position, fields in claimed], len(given_up)

    def acknowledge(self, observer: str, delivery: Delivery) -> None:
        """Record that ``observer`` was told, or is not to be."""
        with translated(self._url):
            self._redis.xack(self._key, observer, delivery.id)

    def end_of(self, delivery: Delivery) -> End:
        """What is delivered, with what the ledger still knows of it."""
        facts: dict[str, Any] = {name: getattr(delivery, name) for name in ("id", "at", "status", "run_id")}
        try:
            return self._of_task(facts, delivery.task_id) if delivery.task_id else self._of_run(facts)
        except (RecordMissing, RecordUnreadable):
            return TaskEnd(**facts, task_id=delivery.task_id) if delivery.task_id else RunEnd(**facts)

    def _of_task(self, facts: dict[str, Any], task_id: str) -> TaskEnd:
        task = self.task(task_id)
        known = {name: getattr(task, name) for name in ("name", "stage", "label", "worker", "attempts")}
        return TaskEnd(**facts, **known, task_id=task_id, error=task.result.error if task.result else None)

    def _of_run(self, facts: dict[str, Any]) -> RunEnd:
        plan = self.plan(facts["run_id"])
        known = {name: getattr(plan, name) for name in ("title", "target", "repository", "commit", "created_at")}
        return RunEnd(**facts, **known, component=plan.component.name)


def _delivery(position: bytes, fields: dict[bytes, bytes], attempt: int) -> Delivery:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    status, at = Status(text["status"]), float(text["at"])
    return Delivery(position.decode(), attempt, at, status, run_id=text["run_id"], task_id=text["task_id"])
