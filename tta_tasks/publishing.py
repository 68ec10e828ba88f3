"""From a record in the ledger to a message in a queue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from amqp.exceptions import AMQPError
from celery.canvas import Signature
from kombu.exceptions import KombuError

from tta_tasks.celery import app
from tta_tasks.connection import refusal, without_password
from tta_tasks.errors import BrokerUnavailable
from tta_tasks.models import TaskRecord
from tta_tasks.queues import Priority, transport_priority
from tta_tasks.settings import settings
from tta_tasks.tasks import DECLARED

#: Messages sent in one round trip, where the transport can.
BATCH = 500


def options_of(task: TaskRecord, transport: str) -> dict[str, Any]:
    """How ``task`` is published: the same from a canvas, on its own, and again."""
    return {
        "task_id": task.id,
        "queue": task.queue,
        "priority": transport_priority(Priority(task.priority), transport),
        # The result is in the ledger; Celery counts a chord's parts without storing them.
        "ignore_result": True,
        # What Flower and a worker's log show of it.
        "argsrepr": f"({task.label!r},)",
    }


def signature_of(task: TaskRecord, transport: str) -> Signature[Any]:
    """The immutable signature that carries out ``task``. It brings no request: that is in the ledger."""
    return DECLARED[task.request.kind].si().set(**options_of(task, transport))


def publish(tasks: Sequence[TaskRecord]) -> None:
    """Publish accepted tasks, each on its own.

    Raises:
        BrokerUnavailable: The broker does not answer; what was not published stays accepted.
    """
    transport = settings().transport
    with translated(), app.producer_or_acquire() as producer, producer.batch(max_size=BATCH):
        for task in tasks:
            DECLARED[task.request.kind].apply_async(producer=producer, **options_of(task, transport))


def reach() -> None:
    """Connect to the broker once.

    Raises:
        BrokerUnavailable: It does not answer, or does not let us in.
    """
    with translated(), app.connection_for_write() as broker:
        broker.connect()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn kombu's faults, and those it lets through, into :class:`BrokerUnavailable`, without the password."""
    try:
        yield
    except (KombuError, redis.RedisError, AMQPError, OSError) as error:
        message, hint = refusal(error, settings().broker) or (
            f"does not answer: {str(error).rstrip('.')}",
            "Is it running, and is TTA_BROKER_URL right (rediss:// or amqps:// only where it speaks TLS)?",
        )
        raise BrokerUnavailable(f"The broker at {without_password(settings().broker)} {message}.", hint) from error
