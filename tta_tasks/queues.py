"""Queues and priorities; which task goes to which queue is in :mod:`tta_tasks.kinds`.

A queue a kind of work, so that fleets scale apart; inside each, four named priorities. Code only ever says the name:
:func:`transport_priority` alone knows what a broker makes of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tta_tasks.models import Priority

if TYPE_CHECKING:
    from kombu import Queue

_RANKS = {priority: rank for rank, priority in enumerate(Priority)}

TESTING = "testing"
OPENHANDS = "openhands"
REFACTORING = "refactoring"
COLLECTION = "collection"
DEPLOYMENT = "deployment"

NAMES = (TESTING, OPENHANDS, REFACTORING, COLLECTION, DEPLOYMENT)
#: Within a priority a worker empties its queues in this order: what ends a run before what begins one, and generation,
#: of which there is most, last.
BY_URGENCY = (DEPLOYMENT, COLLECTION, TESTING, REFACTORING, OPENHANDS)

#: Redis keeps one list a step and empties the lowest first (0 is the most urgent, and what an unset priority means).
REDIS_STEPS = (0, 3, 6, 9)
#: RabbitMQ >= 4 quorum queues have two levels: above 4 is high.
AMQP_LEVELS = (9, 6, 4, 0)


def queues_on(transport: str, ack_within_s: float) -> tuple[Queue, ...]:
    """The queues as they are declared on ``transport``.

    Args:
        transport: Kombu's driver type.
        ack_within_s: How long a message may stay unacknowledged: longer than any task.
    """
    from kombu import Exchange, Queue  # noqa: PLC0415 - names and priorities are wanted where no broker is

    if transport != "amqp":
        # Each with an exchange of its own: on a shared direct one every message would reach every queue.
        return tuple(Queue(name, Exchange(name), routing_key=name) for name in NAMES)
    # Replicated, with two priorities, and (by way of a topic exchange only) with delayed delivery for retries.
    arguments = {"x-queue-type": "quorum", "x-consumer-timeout": int(ack_within_s * 1000)}
    exchange = Exchange("tta", type="topic")
    return tuple(Queue(name, exchange, routing_key=name, queue_arguments=arguments) for name in NAMES)


def transport_priority(priority: Priority, transport: str) -> int:
    """Translate a named priority to the number that ``transport`` (kombu's driver type) sorts by."""
    return AMQP_LEVELS[_RANKS[priority]] if transport == "amqp" else REDIS_STEPS[_RANKS[priority]]


def named_priority(number: int | None, transport: str) -> Priority:
    """The inverse of :func:`transport_priority`, for what a broker reports."""
    levels = AMQP_LEVELS if transport == "amqp" else REDIS_STEPS
    nearest = min(levels, key=lambda level: abs(level - (number or 0)))
    return list(Priority)[levels.index(nearest)]


@lru_cache(maxsize=256)
def list_of(prefix: str, queue: str, priority: Priority) -> str:
    """The key of the list that Kombu's Redis transport keeps for ``queue`` at ``priority``."""
    step = transport_priority(priority, "redis")
    return f"{prefix}{queue}:{step}" if step else f"{prefix}{queue}"
