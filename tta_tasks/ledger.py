"""What was accepted and what became of it, in Redis.

Every task is written here before it is published. Keys, each expiring ``retention_s`` after its last change:

    <prefix>run:<id>      hash    plan, cancelled
    <prefix>task:<id>     hash    the fields of a TaskRecord
    <prefix>events:<id>   stream  what happened in a run (or to a task without one), bounded
    <prefix>runs          zset    run ids by creation time, bounded

A task's status only moves forward, and its first terminal status is final: transitions are Lua scripts, so that a
message delivered twice cannot make two ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

import redis
from pydantic import TypeAdapter

from tta_tasks.errors import RecordMissing, StoreUnavailable
from tta_tasks.models import (
    AnyRequest,
    AnyResult,
    Event,
    Result,
    RunPlan,
    RunRecord,
    Status,
    TaskRecord,
)
from tta_tasks.settings import Settings

REQUEST: Final[TypeAdapter[AnyRequest]] = TypeAdapter(AnyRequest)
RESULT: Final[TypeAdapter[AnyResult]] = TypeAdapter(AnyResult)

# KEYS: task, events.  ARGV: new status, now, worker, result or progress, run id, task id, max events, retention.
# Answers 1 when the transition was made.
_TRANSITION = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status or (status ~= 'queued' and status ~= 'running') then return 0 end
local new, now, worker, payload = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local message = ''
if new == 'progress' then
  if status ~= 'running' then return 0 end
  redis.call('HSET', KEYS[1], 'progress', payload)
  message = payload
elseif new == 'running' then
  redis.call('HSET', KEYS[1], 'status', new, 'worker', worker, 'progress', '')
  redis.call('HSETNX', KEYS[1], 'started_at', now)
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
else
  redis.call('HSET', KEYS[1], 'status', new, 'finished_at', now, 'progress', '', 'result', payload)
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', 'run_id', ARGV[5], 'task_id', ARGV[6], 'at', now, 'what', new,
           'message', message, 'worker', worker)
redis.call('EXPIRE', KEYS[1], ARGV[8])
redis.call('EXPIRE', KEYS[2], ARGV[8])
return 1
"""


@contextlib.contextmanager
def translated(url: str = "") -> Iterator[None]:
    """Turn redis-py's exceptions into :class:`StoreUnavailable`, without the password of ``url``."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} refused the password or user.", "Check TTA_BROKER_URL / TTA_RESULT_URL."
        ) from error
    except redis.RedisError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} does not answer: {error}.",
            "Is it running, and is TTA_BROKER_URL / TTA_RESULT_URL right?",
        ) from error


def without_password(url: str) -> str:
    """``url`` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url


class Ledger:
    """The ledger of one installation.

    Every method raises :class:`StoreUnavailable` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._prefix = settings.key_prefix
        self._transition = client.register_script(_TRANSITION)

    @classmethod
    def connect(cls, settings: Settings) -> Ledger:
        """Open a ledger on the Redis of ``settings``. Connects on first use."""
        return cls(connection(settings), settings)

    # -- writing ---------------------------------------------------------------------------------------------------

    def accept(self, tasks: Sequence[TaskRecord], plan: RunPlan | None = None) -> None:
        """Write down what is about to be published: one round trip, all or nothing."""
        keep = self._settings.retention_s
        with translated(self._settings.redis), self._redis.pipeline(transaction=True) as pipe:
            for task in tasks:
                pipe.hset(self._task_key(task.id), mapping=cast("Any", _to_hash(task)))
                pipe.expire(self._task_key(task.id), keep)
            if plan is not None:
                pipe.hset(self._run_key(plan.id), mapping={"plan": plan.model_dump_json(), "cancelled": 0})
                pipe.expire(self._run_key(plan.id), keep)
                pipe.zadd(f"{self._prefix}runs", {plan.id: plan.created_at})
                pipe.zremrangebyrank(f"{self._prefix}runs", 0, -self._settings.max_runs - 1)
            pipe.execute()

    def start(self, task: TaskRecord, worker: str) -> bool:
        """Record that ``worker`` starts ``task``; ``False`` when the task has already ended."""
        return self._move(task.id, task.run_id, Status.RUNNING, worker, "")

    def progress(self, task: TaskRecord, message: str) -> None:
        """Record what ``task`` is doing now."""
        self._move(task.id, task.run_id, "progress", "", message[:200])

    def finish(self, task: TaskRecord, result: Result, worker: str = "") -> bool:
        """Record how ``task`` ended; ``False`` when it had already ended, and the first end stays."""
        return self._move(task.id, task.run_id, result.status, worker, result.model_dump_json())

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop. Kept here, so that a worker that starts later knows, too."""
        self.plan(run_id)
        with translated(self._settings.redis):
            self._redis.hset(self._run_key(run_id), "cancelled", 1)

    # -- reading ---------------------------------------------------------------------------------------------------

    def cancelled(self, run_id: str | None) -> bool:
        """Whether the run was asked to stop."""
        if run_id is None:
            return False
        with translated(self._settings.redis):
            return self._redis.hget(self._run_key(run_id), "cancelled") == b"1"

    def task(self, task_id: str) -> TaskRecord:
        """The record of one task.

        Raises:
            RecordMissing: No such task, or it has expired.
        """
        return self.tasks([task_id])[0]

    def tasks(self, task_ids: Iterable[str]) -> tuple[TaskRecord, ...]:
        """The records of several tasks, in one round trip.

        Raises:
            RecordMissing: One of them does not exist, or has expired.
        """
        ids = list(task_ids)
        with translated(self._settings.redis), self._redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hgetall(self._task_key(task_id))
            found = cast("list[dict[bytes, bytes]]", pipe.execute())
        for task_id, fields in zip(ids, found, strict=True):
            if not fields:
                raise RecordMissing(
                    f"No task {task_id} is known here.",
                    f"It never existed, or ended more than {self._settings.retention_s} s ago.",
                )
        return tuple(_from_hash(task_id, fields) for task_id, fields in zip(ids, found, strict=True))

    def plan(self, run_id: str) -> RunPlan:
        """What a run was asked to do.

        Raises:
            RecordMissing: No such run, or it has expired.
        """
        with translated(self._settings.redis):
            plan = self._redis.hget(self._run_key(run_id), "plan")
        if plan is None:
            raise RecordMissing(f"No run {run_id} is known here.", "`tta list` shows the runs that are.")
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
        with translated(self._settings.redis):
            found = cast("list[bytes]", self._redis.zrevrange(f"{self._prefix}runs", 0, limit - 1))
        return tuple(item.decode() for item in found)

    def events(self, run_id: str, after: str = "0", wait_s: float = 0.0) -> list[tuple[str, Event]]:
        """What happened in a run after the position ``after``, waiting up to ``wait_s`` for something.

        Returns:
            Pairs of position and event; give the last position to the next call.
        """
        key = self._events_key(run_id)
        block = max(1, int(wait_s * 1000)) if wait_s else None
        with translated(self._settings.redis):
            answer = cast("Any", self._redis.xread({key: after}, block=block, count=1000))
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else [entries for _key, entries in answer]
        flat = [entry for entries in streams for entry in _entries(entries)]
        return [
            (position.decode(), Event.model_validate({name.decode(): value.decode() for name, value in fields.items()}))
            for position, fields in flat
        ]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _move(self, task_id: str, run_id: str | None, status: str, worker: str, payload: str) -> bool:
        stream = run_id or task_id
        arguments = [
            str(status),
            repr(time.time()),
            worker,
            payload,
            stream,
            task_id,
            self._settings.max_events,
            self._settings.retention_s,
        ]
        with translated(self._settings.redis):
            return bool(
                self._transition(keys=[self._task_key(task_id), self._events_key(stream)], args=cast("Any", arguments))
            )

    def _task_key(self, task_id: str) -> str:
        return f"{self._prefix}task:{task_id}"

    def _run_key(self, run_id: str) -> str:
        return f"{self._prefix}run:{run_id}"

    def _events_key(self, stream: str) -> str:
        return f"{self._prefix}events:{stream}"


def connection(settings: Settings) -> redis.Redis:
    """A connection to the Redis of ``settings``, that survives a restart of it."""
    return redis.Redis.from_url(
        settings.redis, socket_connect_timeout=5, socket_timeout=30, health_check_interval=25, retry_on_timeout=True
    )


def _entries(entries: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:  # noqa: ANN401 - RESP2 and RESP3 nest differently
    nested = bool(entries) and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], (list, tuple))
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", entries[0] if nested else entries)


def _to_hash(task: TaskRecord) -> dict[str, str]:
    fields = task.model_dump(mode="json", exclude={"id", "request", "result"}, exclude_none=True)
    fields["request"] = task.request.model_dump_json()
    if task.result is not None:
        fields["result"] = task.result.model_dump_json()
    return {name: str(value) for name, value in fields.items()}


def _from_hash(task_id: str, fields: dict[bytes, bytes]) -> TaskRecord:
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    values["request"] = REQUEST.validate_json(values["request"])
    if "result" in values:
        values["result"] = RESULT.validate_json(values["result"])
    return TaskRecord.model_validate({"id": task_id, "run_id": None, **values})
