"""Reads runs and tasks from the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from tta_tasks.connection import translated
from tta_tasks.errors import RecordMissing
from tta_tasks.ledger.base import LedgerBase
from tta_tasks.ledger.records import entries, from_hash, readable, result_of
from tta_tasks.models import Event, Result, RunPlan, RunRecord, Status, TaskRecord


class Queries(LedgerBase):
    """Reads a ledger, and changes nothing."""

    def cancelled(self, run_id: str) -> bool:
        """Whether the run was asked to stop."""
        with translated(self._url):
            return self._redis.hget(self._run_key(run_id), "cancelled") == b"1"

    def is_cancelled(self, task: TaskRecord) -> bool:
        """Whether ``task`` need not go on: its run was cancelled, or it was ended meanwhile."""
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(self._task_key(task.id), "status")
            pipe.hget(self._run_key(task.run_id or ""), "cancelled")
            status, cancelled = pipe.execute()
        return cancelled == b"1" or status is None or Status(status.decode()).terminal

    def task(self, task_id: str) -> TaskRecord:
        """The record of one task.

        Raises:
            RecordMissing: No such task, or it has expired.
            RecordUnreadable: Another version wrote it.
        """
        return self.tasks([task_id])[0]

    def tasks(self, task_ids: Iterable[str]) -> tuple[TaskRecord, ...]:
        """The records of several tasks, in one round trip.

        Raises:
            RecordMissing: One of them does not exist, or has expired.
            RecordUnreadable: Another version wrote one of them.
        """
        found = self._fields(task_ids)
        for task_id, fields in found:
            if not fields:
                raise self._missing(task_id)
        return tuple(from_hash(task_id, fields) for task_id, fields in found)

    def known(self, task_ids: Iterable[str]) -> tuple[TaskRecord, ...]:
        """The records that there are of several tasks, in one round trip.

        Raises:
            RecordUnreadable: Another version wrote one of them.
        """
        return tuple(from_hash(task_id, fields) for task_id, fields in self._fields(task_ids) if fields)

    def _fields(self, task_ids: Iterable[str]) -> list[tuple[str, dict[bytes, bytes]]]:
        ids = list(task_ids)
        if not ids:
            return []
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hgetall(self._task_key(task_id))
            return list(zip(ids, cast("list[dict[bytes, bytes]]", pipe.execute()), strict=True))

    def results(self, task_ids: Iterable[str]) -> tuple[Result | None, ...]:
        """The results of several tasks, in one round trip; ``None`` for those that have not ended.

        Raises:
            RecordMissing: One of them does not exist, or has expired.
            RecordUnreadable: Another version wrote one of them.
        """
        ids = list(task_ids)
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hmget(self._task_key(task_id), "status", "result")
            found = cast("list[list[bytes | None]]", pipe.execute())
        for task_id, (status, _) in zip(ids, found, strict=True):
            if status is None:
                raise self._missing(task_id)
        return tuple(result_of(task_id, result) for task_id, (_, result) in zip(ids, found, strict=True))

    def _missing(self, task_id: str) -> RecordMissing:
        return RecordMissing(
            f"No task {task_id} is known here.",
            f"It never existed, or ended more than {self._settings.retention_s / 86400:.3g} days ago.",
        )

    def _no_run(self, run_id: str) -> RecordMissing:
        return RecordMissing(
            f"No run {run_id} is known here.",
            f"It never existed, or ended more than {self._settings.retention_s / 86400:.3g} days ago.",
        )

    def plan(self, run_id: str) -> RunPlan:
        """What a run was asked to do.

        Raises:
            RecordMissing: No such run, or it has expired.
            RecordUnreadable: Another version wrote it.
        """
        with translated(self._url):
            plan = self._redis.hget(self._run_key(run_id), "plan")
        if plan is None:
            raise self._no_run(run_id)
        with readable(f"run {run_id}"):
            return RunPlan.from_stored(cast("bytes", plan))

    def run(self, run_id: str) -> RunRecord:
        """A run with all its tasks.

        Raises:
            RecordMissing: No such run, or it has expired.
            RecordUnreadable: Another version wrote it, or one of its tasks.
        """
        plan = self.plan(run_id)
        return RunRecord(plan=plan, tasks=self.tasks(plan.task_ids), cancelled=self.cancelled(run_id))

    def runs(self, limit: int = 20) -> tuple[str, ...]:
        """Ids of the latest runs, newest first."""
        with translated(self._url):
            found = cast("list[bytes]", self._redis.zrevrange(f"{self._prefix}runs", 0, limit - 1))
        return tuple(item.decode() for item in found)

    def events(self, stream: str, after: str = "0", wait_s: float = 0.0) -> list[tuple[str, Event]]:
        """What happened in a run (or to a task without one) after a position, waiting up to ``wait_s`` for something.

        Returns:
            Pairs of position and event; give the last position to the next call.
        """
        key = f"{self._prefix}events:{stream}"
        block = max(1, int(wait_s * 1000)) if wait_s else None
        with translated(self._url):
            answer = cast("Any", self._redis.xread({key: after}, block=block, count=1000))
        return [(position.decode(), _event(fields)) for position, fields in entries(answer)]

    def claimed_task(self, task_id: str) -> TaskRecord:
        """The task being executed on the message of ``task_id``: its own, or a quick task chained to it.

        A chained task that was requeued does not count: it has a message of its own.

        Raises:
            RecordMissing: No such task, or it has expired.
            RecordUnreadable: Another version wrote it.
        """
        with translated(self._url):
            following = cast("bytes | None", self._redis.hget(self._task_key(task_id), "_then"))
        if following and (record := self.task(following.decode())).status is Status.RUNNING:
            return record
        return self.task(task_id)

    def open_ids(self, queue: str) -> tuple[str, ...]:
        """Ids of all tasks of ``queue`` that wait or run."""
        with translated(self._url):
            found = cast("list[bytes]", self._redis.zrange(self._open_key(queue), 0, -1))
        return tuple(item.decode() for item in found)

    def open_tasks(self, queue: str) -> int:
        """How many tasks of ``queue`` wait or run."""
        with translated(self._url):
            return self._redis.zcard(self._open_key(queue))

    def durations(self, component: str) -> dict[str, float]:
        """Module -> how long its generation took the last time, in seconds."""
        with translated(self._url):
            found = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._prefix}durations:{component}"))
        return {module.decode(): float(seconds) for module, seconds in found.items()}

    def _task_key(self, task_id: str) -> str:
        return f"{self._prefix}task:{task_id}"

    def _run_key(self, run_id: str) -> str:
        return f"{self._prefix}run:{run_id}"

    def _open_key(self, queue: str) -> str:
        return f"{self._prefix}open:{queue}"


def _event(fields: dict[bytes, bytes]) -> Event:
    return Event.model_validate({name.decode(): value.decode() for name, value in fields.items()}, extra="ignore")
