"""What was accepted and what became of it, in Redis.

Every task is written here before it is published. Keys, each expiring ``retention_s`` after its last change:

    <prefix>run:<id>       hash    plan, cancelled, created_at, tasks left, failed
    <prefix>task:<id>      hash    the fields of a TaskRecord; also a channel that tells each change of its status
    <prefix>events:<id>    stream  what happened in a run (or to a task without one), bounded
    <prefix>runs           zset    run ids by creation time, bounded
    <prefix>open:<queue>   zset    tasks that have not ended, by the time the reconciler should look after them
    <prefix>running:<queue>  zset  those of them that a worker is doing, by the end of their lease
    <prefix>parked:<queue>   zset  those of them that wait for their time, or for a person (parking.py), since when
    <prefix>workers:<queue>  zset  "<slots> <node name>" of the workers on it, by when they are due to be heard of again
    <prefix>dead           list    tasks that were given up, newest first, bounded
    <prefix>counters       hash    what became of all tasks (counters.py), bounded

A task's status only moves forward, and its first terminal status is final: transitions are Lua scripts
(``scripts.py``), so that a message delivered twice cannot make two ends.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, cast

import redis
from pydantic import TypeAdapter, ValidationError

from tta_tasks.connection import connect, translated
from tta_tasks.errors import RecordMissing, RecordUnreadable, StoreUnavailable
from tta_tasks.ledger import counters, scripts
from tta_tasks.ledger.parking import Parking
from tta_tasks.models import (
    AnyRequest,
    AnyResult,
    Decision,
    Event,
    Promotion,
    Result,
    RunPlan,
    RunRecord,
    Status,
    TaskRecord,
)
from tta_tasks.settings import Settings

REQUEST: Final[TypeAdapter[AnyRequest]] = TypeAdapter(AnyRequest)
RESULT: Final[TypeAdapter[AnyResult]] = TypeAdapter(AnyResult)

#: A worker renews the lease on its running tasks three times within it; it ends before the broker hands a lost worker's
#: message to another one.
LEASE_SHARE = 0.8
#: How long after its message should have been published a waiting task is looked after, in seconds.
GRACE_S = 10.0
#: Most dead letters kept.
MAX_DEAD = 1000
#: Most runs forgotten when one is accepted.
FORGET_AT_ONCE = 3


class Move(StrEnum):
    """What became of a transition."""

    MOVED = "moved"
    #: The task had already ended.
    ENDED = "ended"
    #: Another worker is doing it right now.
    BUSY = "busy"
    UNKNOWN = "unknown"


class Ledger:
    """The ledger of one installation.

    Every method raises :class:`StoreUnavailable` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._prefix = settings.key_prefix
        self._url = settings.redis
        self._tells_disk = True
        self._accept = client.register_script(scripts.ACCEPT)
        self._move = client.register_script(scripts.MOVE)
        self._renew = client.register_script(scripts.RENEW)
        #: Tasks that wait without a worker.
        self.parking = Parking(client, settings)

    @classmethod
    def connect(cls, settings: Settings) -> Ledger:
        """Open a ledger on the Redis of ``settings``. Connects on first use."""
        return cls(connect(settings), settings)

    # -- accepting -------------------------------------------------------------------------------------------------

    def accept(self, tasks: Sequence[TaskRecord], plan: RunPlan | None = None) -> tuple[bool, ...]:
        """Write down what is about to be published, in one round trip.

        Returns:
            For each task whether it is new; one that is already known is left as it is.
        """
        keep = self._settings.retention_s
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            for task in tasks:
                due = min(task.submitted_at + GRACE_S, task.deadline or math.inf)
                arguments: list[Any] = [task.id, due, keep, *(part for pair in _to_hash(task).items() for part in pair)]
                self._accept(keys=[self._task_key(task.id), self._open_key(task.queue)], args=arguments, client=pipe)
            if plan is not None:
                facts: dict[Any, Any] = {"cancelled": 0, "created_at": plan.created_at, "left": len(tasks)}
                pipe.hset(self._run_key(plan.id), mapping=facts | {"plan": plan.model_dump_json()})
                pipe.expire(self._run_key(plan.id), keep)
                pipe.zadd(f"{self._prefix}runs", {plan.id: plan.created_at})
            answers = pipe.execute()
        if plan is not None:
            self._forget_oldest()
        return tuple(bool(answer) for answer in answers[: len(tasks)])

    def secure(self) -> None:
        """Wait until all that was written is on the server's disk, where the server can tell.

        Raises:
            StoreUnavailable: It is not there within ``submit_fsync_timeout_s``.
        """
        within_s = self._settings.submit_fsync_timeout_s
        if not within_s or not self._tells_disk:
            return
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            # The log is one: once this connection's own write is on disk, everything before it is.
            pipe.set(f"{self._prefix}secured", 1, ex=60)
            pipe.execute_command("WAITAOF", 1, 0, int(within_s * 1000))  # type: ignore[no-untyped-call]
            _, answer = pipe.execute(raise_on_error=False)
        if isinstance(answer, redis.ResponseError):
            self._tells_disk = False  # it is older, or keeps nothing on disk
        elif isinstance(answer, Exception) or answer[0] < 1:
            raise StoreUnavailable(
                f"What was handed in is accepted, but not on the disk of Redis within {within_s:g} s.",
                "Hand it in again with the same idempotency key, or see why the server's disk is slow.",
            )

    def cancel(self, run_id: str) -> None:
        """Ask a run's running tasks to stop. Kept here, so that a worker that starts later knows, too.

        Raises:
            RecordMissing: No such run, or it has expired.
        """
        self.plan(run_id)
        with translated(self._url):
            self._redis.hset(self._run_key(run_id), "cancelled", 1)

    # -- a task's life ---------------------------------------------------------------------------------------------

    def start(self, task: TaskRecord, worker: str, *, slots: int = 1, redelivered: bool = False) -> Move:
        """Record that ``worker`` starts ``task``, and take its lease.

        While somebody holds it the answer is ``BUSY``, even when the broker delivers the message again: it does so when
        a connection breaks, and the work goes on behind it.

        Args:
            task: The task.
            worker: Node name of the worker.
            slots: How many tasks it does at once.
            redelivered: Whether the broker delivers its message again; counted.
        """
        until = time.time() + self.lease_s
        counted = counters.started(task, redelivered=redelivered)
        mark = uuid.uuid4().hex
        return self._moved(task, Status.RUNNING, counted, worker=worker, payload=str(slots), due=until, mark=mark)

    def progress(self, task: TaskRecord, message: str) -> None:
        """Record what ``task`` is doing now."""
        self._moved(task, "progress", {}, payload=message[:200])

    def requeue(self, task: TaskRecord, why: str, due: float, *, worker: str = "", lost: bool = False) -> Move:
        """Record that ``task`` waits (again) for a worker; the reconciler looks after it at ``due``.

        Args:
            task: The task.
            why: For a person.
            due: Epoch seconds.
            worker: Who gives it back; ``BUSY`` when that one is not doing it. Without, ``BUSY`` while anybody holds it.
            lost: Whether it, or its message, was lost.
        """
        counted = {f"{'lost' if lost else 'retried'}:{task.stage}": 1.0}
        mark = str(int(lost))
        return self._moved(task, Status.QUEUED, counted, worker=worker, payload=why[:200], due=due, mark=mark)

    def losses(self, task_id: str) -> int:
        """How often the task was lost while it ran."""
        with translated(self._url):
            return int(cast("bytes | None", self._redis.hget(self._task_key(task_id), "_losses")) or 0)

    def finish(self, task: TaskRecord, result: Result, worker: str = "") -> bool:
        """Record how ``task`` ended; ``False`` when it had already ended, and the first end stays."""
        counted = counters.ended(task, result)
        return self._moved(task, result.status, counted, worker=worker, payload=result.model_dump_json()) is Move.MOVED

    @property
    def lease_s(self) -> float:
        """How long a running task stays its worker's without a sign of life, in seconds."""
        return self._settings.visibility_timeout_s * LEASE_SHARE

    def renew(self, tasks: Iterable[tuple[str, str]], worker: str) -> None:
        """Renew the leases on ``tasks`` (pairs of id and queue) that ``worker`` is running."""
        until, keep = time.time() + self.lease_s, self._settings.retention_s
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task_id, queue in tasks:
                keys = [self._task_key(task_id), self._open_key(queue), self._running_key(queue)]
                self._renew(keys=keys, args=[task_id, worker, until, keep], client=pipe)
            pipe.execute()

    def present(self, worker: str, queues: Iterable[str], slots: int) -> None:
        """Record that ``worker`` takes tasks of ``queues``, ``slots`` at once, and will say so again within a lease."""
        now = time.time()
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zremrangebyscore(self._workers_key(queue), "-inf", now)
                pipe.zadd(self._workers_key(queue), {f"{slots} {worker}": now + self.lease_s})
                pipe.expire(self._workers_key(queue), self._settings.retention_s)
            pipe.execute()

    def absent(self, worker: str, queues: Iterable[str], slots: int) -> None:
        """Record that ``worker`` takes no more tasks."""
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zrem(self._workers_key(queue), f"{slots} {worker}")
            pipe.execute()

    # -- what the reconciler looks after -----------------------------------------------------------------------------

    def due(self, queue: str, limit: int) -> tuple[str, ...]:
        """Ids of tasks of ``queue`` that have not ended and should be looked after now."""
        with translated(self._url):
            found = self._redis.zrangebyscore(self._open_key(queue), "-inf", time.time(), start=0, num=limit)
        return tuple(item.decode() for item in cast("list[bytes]", found))

    def defer(self, tasks: Iterable[tuple[TaskRecord, float]]) -> None:
        """Look after these tasks at the times beside them; those that ended meanwhile are left alone.

        They, and their runs, are kept longer: what has not ended does not expire.
        """
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task, when in tasks:
                pipe.zadd(self._open_key(task.queue), {task.id: min(when, task.deadline or math.inf)}, xx=True)
                pipe.expire(self._task_key(task.id), self._settings.retention_s)
                pipe.expire(self._run_key(task.run_id or ""), self._settings.retention_s)
            pipe.execute()

    def put_off(self, queue: str, task_id: str, when: float) -> None:
        """Look after a task at ``when`` whose record cannot be read; whoever can may have ended it meanwhile."""
        with translated(self._url):
            self._redis.zadd(self._open_key(queue), {task_id: when}, xx=True)

    def forget(self, queue: str, task_id: str) -> None:
        """Do not look after a task whose record has expired."""
        with translated(self._url):
            self._redis.zrem(self._open_key(queue), task_id)
            self._redis.zrem(self._running_key(queue), task_id)
            self._redis.zrem(f"{self._prefix}parked:{queue}", task_id)

    def open_tasks(self, queue: str) -> int:
        """How many tasks of ``queue`` wait or run."""
        with translated(self._url):
            return self._redis.zcard(self._open_key(queue))

    def bury(self, task: TaskRecord, why: str) -> None:
        """Keep the story of a task that was given up."""
        letter = task.model_copy(update={"progress": why}).model_dump_json(exclude={"request", "result"})
        with translated(self._url), self._redis.pipeline() as pipe:
            pipe.lpush(f"{self._prefix}dead", letter)
            pipe.ltrim(f"{self._prefix}dead", 0, MAX_DEAD - 1)
            pipe.expire(f"{self._prefix}dead", self._settings.retention_s)
            pipe.hincrby(f"{self._prefix}counters", f"dead:{task.stage}", 1)
            pipe.execute()

    # -- reading ---------------------------------------------------------------------------------------------------

    def cancelled(self, run_id: str) -> bool:
        """Whether the run was asked to stop."""
        with translated(self._url):
            return self._redis.hget(self._run_key(run_id), "cancelled") == b"1"

    def unwanted(self, task: TaskRecord) -> bool:
        """Whether nobody waits for ``task`` any more: its run was asked to stop, or it was ended meanwhile."""
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
        ids = list(task_ids)
        if not ids:
            return ()
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hgetall(self._task_key(task_id))
            found = cast("list[dict[bytes, bytes]]", pipe.execute())
        for task_id, fields in zip(ids, found, strict=True):
            if not fields:
                raise RecordMissing(
                    f"No task {task_id} is known here.",
                    f"It never existed, or ended more than {timedelta(seconds=self._settings.retention_s)} ago.",
                )
        return tuple(_from_hash(task_id, fields) for task_id, fields in zip(ids, found, strict=True))

    def plan(self, run_id: str) -> RunPlan:
        """What a run was asked to do.

        Raises:
            RecordMissing: No such run, or it has expired.
        """
        with translated(self._url):
            plan = self._redis.hget(self._run_key(run_id), "plan")
        if plan is None:
            raise RecordMissing(
                f"No run {run_id} is known here.",
                f"It never existed, or ended more than {timedelta(seconds=self._settings.retention_s)} ago.",
            )
        return RunPlan.model_validate_json(cast("bytes", plan))

    def run(self, run_id: str) -> RunRecord:
        """A run with all its tasks.

        Raises:
            RecordMissing: No such run, or it has expired.
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
        return [
            (position.decode(), Event.model_validate({name.decode(): value.decode() for name, value in fields.items()}))
            for position, fields in _entries(answer)
        ]

    def _forget_oldest(self) -> None:
        """Remove the runs above ``max_runs``, oldest first, with all that is kept of them; not one that goes on."""
        runs = f"{self._prefix}runs"
        with translated(self._url):
            oldest = cast("list[bytes]", self._redis.zrange(runs, 0, -self._settings.max_runs - 1))
            # A few at a time: each new run makes room for more than itself.
            for run_id in [item.decode() for item in oldest[:FORGET_AT_ONCE]]:
                try:
                    record = self.run(run_id)
                except RecordMissing:
                    self._redis.zrem(runs, run_id)
                    continue
                if record.status.terminal:
                    tasks = [self._task_key(task.id) for task in record.tasks]
                    self._redis.delete(self._run_key(run_id), f"{self._prefix}events:{run_id}", *tasks)
                    self._redis.zrem(runs, run_id)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _moved(
        self,
        task: TaskRecord,
        new: str,
        counted: dict[str, float],
        *,
        worker: str = "",
        payload: str = "",
        due: float = 0.0,
        mark: str = "",
    ) -> Move:
        stream = task.run_id or task.id
        keys = [self._task_key(task.id), self._open_key(task.queue), f"{self._prefix}events:{stream}"]
        keys += [f"{self._prefix}counters", self._running_key(task.queue), self._run_key(task.run_id or "")]
        keys += [f"{self._prefix}parked:{task.queue}"]
        arguments: list[Any] = [task.id, stream, self._settings.max_events, self._settings.retention_s]
        arguments += [repr(time.time()), str(new), worker, payload, repr(due), mark]
        arguments += [part for pair in counted.items() for part in pair]
        with translated(self._url):
            return Move(cast("bytes", self._move(keys=keys, args=arguments)).decode())

    def _task_key(self, task_id: str) -> str:
        return f"{self._prefix}task:{task_id}"

    def _run_key(self, run_id: str) -> str:
        return f"{self._prefix}run:{run_id}"

    def _open_key(self, queue: str) -> str:
        return f"{self._prefix}open:{queue}"

    def _running_key(self, queue: str) -> str:
        return f"{self._prefix}running:{queue}"

    def _workers_key(self, queue: str) -> str:
        return f"{self._prefix}workers:{queue}"


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:  # noqa: ANN401 - RESP2 and RESP3 nest differently
    """The entries of the one stream that was read."""
    if not answer:
        return []
    entries = next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1]
    nested = bool(entries) and isinstance(entries[0], list)
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", entries[0] if nested else entries)


def _to_hash(task: TaskRecord) -> dict[str, str]:
    fields = task.model_dump(mode="json", exclude={"id", "request", "result"}, exclude_none=True)
    fields["request"] = task.request.model_dump_json()
    if task.result is not None:
        fields["result"] = task.result.model_dump_json()
    return {name: str(value) for name, value in fields.items()}


def _from_hash(task_id: str, fields: dict[bytes, bytes]) -> TaskRecord:
    # What begins with an underscore is the scripts' own.
    mine = {name.decode(): value.decode() for name, value in fields.items() if not name.startswith(b"_")}
    values: dict[str, Any] = dict(mine)
    try:
        values["request"] = REQUEST.validate_json(values["request"])
        if "result" in values:
            values["result"] = RESULT.validate_json(values["result"])
        if "promotion" in values:
            values["promotion"] = Promotion.model_validate_json(values["promotion"])
        if "decision" in values:
            values["decision"] = Decision.model_validate_json(values["decision"])
        return TaskRecord.model_validate({"id": task_id, "run_id": None, **values})
    except (ValidationError, KeyError) as error:
        raise RecordUnreadable(
            f"The record of task {task_id} cannot be read here: {str(error).splitlines()[0]}.",
            "Another version wrote it: let all hosts have the same.",
        ) from error
