"""What the fleet is doing now: queues, workers, and what was counted. For the exporter, ``tta top`` and the reconciler.

A look costs a few round trips and no scan, whatever has been done before.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import redis
from pydantic import BaseModel, ConfigDict

from tta_tasks import connection, publishing
from tta_tasks.celery import app
from tta_tasks.errors import RecordMissing, RecordUnreadable
from tta_tasks.ledger import Ledger
from tta_tasks.models import Priority, TaskRecord
from tta_tasks.queues import NAMES, list_of
from tta_tasks.settings import Settings


class Frozen(BaseModel):
    """Base of what was seen."""

    model_config = ConfigDict(frozen=True)


class Waiting(Frozen):
    """The messages that wait in one queue at one priority."""

    #: ``None`` where the broker does not tell them apart.
    priority: Priority | None
    count: int
    #: Since how long the oldest could have been done, in seconds; ``None`` when none waits, or nobody knows.
    oldest_s: float | None = None


class Worker(Frozen):
    """A worker on a queue."""

    name: str
    #: How many tasks it does at once.
    slots: int


class QueueState(Frozen):
    """One queue."""

    name: str
    #: Tasks accepted and not ended: waiting for others, waiting here, parked, running.
    open: int
    running: int
    #: Deployments that wait for their time, or for a person.
    parked: int
    #: Since how long the least lively of the running tasks gave no sign of life, in seconds.
    lease_age_s: float = 0.0
    waiting: tuple[Waiting, ...]
    workers: tuple[Worker, ...]

    @property
    def slots(self) -> int:
        """How many tasks its workers could do at once, had they no other queue."""
        return sum(worker.slots for worker in self.workers)


class FleetState(Frozen):
    """All of it, at one moment."""

    at: float
    queues: tuple[QueueState, ...]
    #: Dead letters that are kept.
    dead: int
    #: Whether a worker is elected that looks after what was lost.
    reconciled: bool
    #: Service outside of the fleet (``model NAME``) -> state of its circuit breaker: closed, open or half-open.
    breakers: dict[str, str] = {}
    #: ``name:label:...`` -> how much; see :mod:`tta_tasks.ledger.counters`.
    counters: dict[str, float]


class Fleet:
    """Looks at an installation.

    Args:
        ledger: Its ledger.
        settings: How this process is set up.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._prefix = settings.key_prefix
        self._redis = connection.connect(settings)

    def look(self) -> FleetState:
        """See what it is doing now.

        Raises:
            StoreUnavailable: The ledger does not answer.
            BrokerUnavailable: The broker does not answer.
        """
        now = self._ledger.clock.now()
        with connection.translated(self._settings.redis), self._redis.pipeline(transaction=False) as pipe:
            pipe.llen(f"{self._prefix}dead")
            pipe.exists(f"{self._prefix}reconciler")
            pipe.hgetall(f"{self._prefix}counters")
            pipe.hgetall(f"{self._prefix}breakers")
            for queue in NAMES:
                pipe.zcard(f"{self._prefix}open:{queue}")
                pipe.zcard(f"{self._prefix}running:{queue}")
                pipe.zcard(f"{self._prefix}parked:{queue}")
                pipe.zrange(f"{self._prefix}running:{queue}", 0, 0, withscores=True)
                pipe.zrangebyscore(f"{self._prefix}workers:{queue}", now, "+inf")
            dead, reconciler, counters, breakers, *rest = pipe.execute()
        found = iter(rest)
        return FleetState(
            at=now,
            queues=tuple(self._queue(name, now, *itertools.islice(found, 5)) for name in NAMES),
            dead=dead,
            reconciled=bool(reconciler),
            breakers={name.decode(): state.decode() for name, state in breakers.items()},
            counters={name.decode(): float(value) for name, value in counters.items()},
        )

    def _queue(self, name: str, now: float, *found: Any) -> QueueState:  # noqa: ANN401 - five answers of Redis
        open_, running, parked, first, workers = found
        age = max(0.0, now - (first[0][1] - self._settings.lease_s)) if first else 0.0
        return QueueState(
            name=name,
            open=open_,
            running=running,
            parked=parked,
            lease_age_s=age,
            waiting=tuple(self._waiting(name, now)),
            workers=tuple(_worker(member.decode()) for member in sorted(workers)),
        )

    # -- what waits in the broker ----------------------------------------------------------------------------------

    def _waiting(self, queue: str, now: float) -> Iterator[Waiting]:
        if self._settings.transport != "redis":
            yield Waiting(priority=None, count=waiting_at_rabbitmq(queue))
            return
        with connection.translated(self._settings.broker), self._broker.pipeline(transaction=False) as pipe:
            for priority in Priority:
                pipe.llen(list_of(self._prefix, queue, priority))
            counts = pipe.execute()
        for priority, count in zip(Priority, counts, strict=True):
            oldest = self.oldest(queue, priority) if count else None
            since = self._since(oldest) if oldest else None
            age = None if since is None else max(0.0, now - since)
            yield Waiting(priority=priority, count=count, oldest_s=age)

    def oldest(self, queue: str, priority: Priority) -> str | None:
        """Id of the oldest message in ``queue`` at ``priority``; ``None`` when none waits there. Of Redis only.

        Empty for what is no message of ours, however it came there.
        """
        with connection.translated(self._settings.broker):
            found = cast("bytes | None", self._broker.lindex(list_of(self._prefix, queue, priority), -1))
        if found is None:
            return None
        try:
            return str(json.loads(found)["headers"]["id"])
        except (ValueError, LookupError, TypeError):
            return ""

    def _since(self, task_id: str) -> float | None:
        try:
            return waiting_since(self._ledger.task(task_id))
        except (RecordMissing, RecordUnreadable):
            return None  # published without the ledger, expired meanwhile, or of another version

    @cached_property
    def _broker(self) -> redis.Redis:
        return connection.connect(self._settings, self._settings.broker)


def waiting_since(task: TaskRecord) -> float:
    """When the task's message was published."""
    return task.published_at or task.submitted_at


def waiting_at_rabbitmq(queue: str) -> int:
    """How many messages wait in ``queue``; RabbitMQ tells neither which nor of which priority.

    Raises:
        BrokerUnavailable: The broker does not answer.
    """
    with publishing.translated(), app.connection_for_read() as broker:
        channel: Any = broker.default_channel
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except broker.channel_errors:
            return 0  # neither a producer nor a worker has declared it yet


def _worker(member: str) -> Worker:
    slots, _, name = member.partition(" ")
    return Worker(name=name, slots=int(slots))
