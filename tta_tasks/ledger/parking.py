"""Deployments that wait for their time, or for a person, without a worker.

A parked task is an open one with status ``parked``: the worker that got its message has written down what it waits for,
and has thrown the message away. The reconciler publishes it again when it is due; a person's approval does so at once.
Both scripts are atomic, and the first decision counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, cast

import redis

from tta_tasks.connection import translated
from tta_tasks.ledger.base import Part
from tta_tasks.models import Decision, Promotion, TaskRecord
from tta_tasks.settings import Settings

#: A parked task is looked at this often within the retention at least, so that its run does not expire.
LOOKS = 4

# KEYS: task, open, events, parked.
# ARGV: task id, stream, max events, retention, now, promotion, what it waits for, when to look after it.
# Answers 1 when it is parked.
PARK: Final = """
local now, waits = ARGV[5], ARGV[7]
local known = redis.call('HMGET', KEYS[1], 'status', 'deadline', 'decision', 'progress')
if known[1] ~= 'queued' and known[1] ~= 'parked' then return 0 end
local look = math.min(tonumber(ARGV[8]), tonumber(known[2] or ARGV[8]))
-- Decided while a worker looked at it: it must not wait for what it has.
if known[3] and tonumber(now) >= cjson.decode(ARGV[6]).soaked_at then look = now end
redis.call('HSET', KEYS[1], 'status', 'parked', 'promotion', ARGV[6], 'progress', waits)
redis.call('ZADD', KEYS[2], look, ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if known[1] ~= 'parked' or known[4] ~= waits then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'run_id', ARGV[2], 'task_id', ARGV[1], 'at', now,
             'what', 'parked', 'message', waits, 'worker', '')
  redis.call('PUBLISH', KEYS[1], 'parked')
end
redis.call('EXPIRE', KEYS[3], ARGV[4])
return 1
"""

# KEYS: task, open, events, parked.
# ARGV: task id, stream, max events, retention, now, decision, its outcome, message, when to look after a queued one.
# Answers what became of it, and the decision that counts.
DECIDE: Final = """
local now, outcome = ARGV[5], ARGV[7]
local known = redis.call('HMGET', KEYS[1], 'status', 'promotion', 'decision')
if not known[1] then return {'unknown', ''} end
if known[3] then return {'decided', known[3]} end
if known[1] ~= 'queued' and known[1] ~= 'parked' and known[1] ~= 'running' then return {'ended', ''} end
if not known[2] then return {'early', ''} end
if known[1] == 'running' then return {'begun', ''} end
local promotion = cjson.decode(known[2])
if outcome == 'approved' then
  if not promotion.approval then return {'unneeded', ''} end
  if tonumber(now) > promotion.expires_at then return {'expired', ''} end
end
redis.call('HSET', KEYS[1], 'decision', ARGV[6])
local answer = 'recorded'
if outcome == 'rejected' then
  redis.call('ZADD', KEYS[2], now, ARGV[1])
elseif known[1] == 'parked' and tonumber(now) >= promotion.soaked_at then
  redis.call('HSET', KEYS[1], 'status', 'queued', 'progress', '', 'published_at', now)
  redis.call('ZADD', KEYS[2], ARGV[9], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  answer = 'released'
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'run_id', ARGV[2], 'task_id', ARGV[1], 'at', now,
           'what', outcome, 'message', ARGV[8], 'worker', '')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
redis.call('PUBLISH', KEYS[1], outcome)
return {answer, ARGV[6]}
"""

# KEYS: task, open.  ARGV: task id, when to look after it, whether it was decided on when that was found out.
# Released, or decided on, meanwhile, it must be looked after sooner than that.
DEFER: Final = """
local known = redis.call('HMGET', KEYS[1], 'status', 'decision')
if known[1] == 'parked' and (known[2] and '1' or '0') == ARGV[3] then
  redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[1])
end
"""


class Answer(StrEnum):
    """What became of a decision."""

    #: It is written down.
    RECORDED = "recorded"
    #: It is, and the task waits for a worker now: publish it.
    RELEASED = "released"
    #: Somebody had decided before.
    DECIDED = "decided"
    #: The task was never parked.
    EARLY = "early"
    #: It needs no approval.
    UNNEEDED = "unneeded"
    #: Its time was over.
    EXPIRED = "expired"
    #: A worker is doing it.
    BEGUN = "begun"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Parking(Part):
    """Parks tasks, and takes down what people decide of them."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._park = client.register_script(PARK)
        self._decide = client.register_script(DECIDE)
        self._defer = client.register_script(DEFER)

    @property
    def look_s(self) -> float:
        """How long a parked task may go without being looked at, in seconds."""
        return self._settings.retention_s / LOOKS

    def park(self, task: TaskRecord, promotion: Promotion) -> bool:
        """Record that ``task`` waits; ``False`` when it was begun, or has ended, meanwhile."""
        waits = f"{promotion.after} soaks" if promotion.waits_for == "soak" else "waits for approval"
        look = min(promotion.due, time.time() + self.look_s)
        with translated(self._url):
            answer = self._park(
                keys=self._keys(task), args=[*self._common(task), promotion.model_dump_json(), waits, repr(look)]
            )
        return bool(answer)

    def decide(self, task: TaskRecord, decision: Decision, look: float) -> tuple[Answer, Decision | None]:
        """Write ``decision`` down, if it is the first and there is something to decide.

        Args:
            task: The task.
            decision: Who said what.
            look: When the reconciler looks after the task, should it be released.

        Returns:
            What became of it, and the decision that counts.
        """
        message = f"by {decision.by}" + (f": {decision.reason}" if decision.reason else "")
        arguments: list[Any] = [*self._common(task), decision.model_dump_json(), decision.outcome, message, repr(look)]
        with translated(self._url):
            answer = cast("list[bytes]", self._decide(keys=self._keys(task), args=arguments))
        counts = Decision.model_validate_json(answer[1]) if answer[1] else None
        return Answer(answer[0].decode()), counts

    def defer(self, task: TaskRecord, look: float) -> None:
        """Look after ``task`` at ``look``, unless it changes, or has changed since it was read."""
        deadline = task.deadline if task.deadline is not None else look
        with translated(self._url):
            self._defer(
                keys=self._keys(task)[:2], args=[task.id, repr(min(look, deadline)), int(task.decision is not None)]
            )

    def publishing(self, task: TaskRecord, look: float) -> None:
        """Record that a parked task's message is published now, for a worker to look; look after it at ``look``."""
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"{self._prefix}task:{task.id}", "published_at", repr(time.time()))
            pipe.zadd(f"{self._prefix}open:{task.queue}", {task.id: look}, xx=True)
            pipe.execute()

    def keep(self, task: TaskRecord, others: Iterable[str]) -> None:
        """Do not let what belongs to a parked task expire: its run, and the tasks ``others``."""
        run = task.run_id or ""
        names = [f"run:{run}", f"events:{run or task.id}", *(f"task:{each}" for each in {task.id, *others})]
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.expire(f"{self._prefix}{name}", self._settings.retention_s)
            pipe.execute()

    def _keys(self, task: TaskRecord) -> list[str]:
        prefix = self._prefix
        stream = task.run_id or task.id
        return [
            f"{prefix}task:{task.id}",
            f"{prefix}open:{task.queue}",
            f"{prefix}events:{stream}",
            f"{prefix}parked:{task.queue}",
        ]

    def _common(self, task: TaskRecord) -> list[Any]:
        limits = self._settings
        return [task.id, task.run_id or task.id, limits.max_events, limits.retention_s, repr(time.time())]
