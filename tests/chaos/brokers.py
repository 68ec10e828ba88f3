"""The messages a broker has: those waiting, and at Redis those handed out and not acknowledged."""

from __future__ import annotations

import time
from typing import Any

import redis

from tests.chaos.arena import VISIBILITY_S
from tta_tasks import publishing
from tta_tasks.celery import RESTORE_EVERY_S, app
from tta_tasks.fleet import waiting_at_rabbitmq
from tta_tasks.kinds import KINDS
from tta_tasks.queues import NAMES
from tta_tasks.settings import settings

#: How long a message may be held that nobody needs any more, in seconds. A worker holds a copy that is to be tried
#: again until it is due, at most 48 s. One whose acknowledgement was lost comes again after the visibility timeout,
#: when a worker looks, as each does every 5 s; and if one died that was looking, not before its lock has expired. That
#: took 300 s once, as is kombu's own, and messages were held beyond any patience.
DRAIN_S = max(kind.retry.longest_s for kind in KINDS) + VISIBILITY_S + 2 * RESTORE_EVERY_S + 10.0


def emptied() -> None:
    """Declare the queues at RabbitMQ, and take away what an earlier session left there."""
    with publishing.translated(), app.connection_for_write() as connection:
        for name in NAMES:
            queue: Any = app.amqp.queues[name](connection.default_channel)
            queue.declare()
            queue.purge()


def drained(direct: redis.Redis) -> float:
    """Let the broker be rid of what has ended; answer how long that took, in seconds, or how long was waited."""
    began = time.monotonic()
    while _has_messages(direct) and time.monotonic() - began < DRAIN_S:
        time.sleep(0.2)
    return time.monotonic() - began


def waiting() -> int:
    """How many messages wait at RabbitMQ."""
    return sum(waiting_at_rabbitmq(name) for name in NAMES)


def _has_messages(direct: redis.Redis) -> bool:
    if settings().transport == "amqp":
        return waiting() > 0
    return bool(direct.exists(f"{settings().key_prefix}unacked"))
