"""From a record in the ledger to a message in a queue."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

import redis
from amqp.exceptions import AMQPError
from kombu import Connection, Producer
from kombu.exceptions import KombuError
from kombu.utils.json import dumps

from tta_tasks.celery import app
from tta_tasks.connection import answer, refusal, without_password
from tta_tasks.errors import BrokerUnavailable
from tta_tasks.models import Priority, TaskRecord
from tta_tasks.queues import transport_priority
from tta_tasks.settings import settings

#: Messages sent in one round trip, where the transport can.
BATCH = 500
#: Header of a message whose task is in the ledger; no broker need hold it.
HELD = "tta_held"
#: Stand in a rendered message for what differs from task to task.
_STAND_IN = "-00000000-0000-4000-8000-000000000000"
_ID, _LABEL = f"id{_STAND_IN}", f"label{_STAND_IN}"


def options_of(task: TaskRecord, transport: str) -> dict[str, Any]:
    """How ``task`` is published: at first, from a canvas, and again."""
    return {
        "task_id": task.id,
        "queue": task.queue,
        "priority": transport_priority(task.priority, transport),
        # The result is in the ledger.
        "ignore_result": True,
        # What Flower and a worker's log show of it.
        "argsrepr": f"({task.label!r},)",
        "headers": {HELD: 1},
    }


def publish(tasks: Sequence[TaskRecord]) -> None:
    """Publish accepted tasks, each on its own.

    Raises:
        BrokerUnavailable: The broker does not answer; what was not published stays accepted.
    """
    if not tasks:
        return
    transport = settings().transport
    with translated(), app.producer_or_acquire() as producer, producer.batch(max_size=BATCH):
        for task in tasks:
            app.send_task(task.name, producer=producer, **options_of(task, transport))


@lru_cache(maxsize=64)
def message_of(name: str, queue: str, priority: Priority) -> tuple[str, ...]:
    """The message of a task as Celery and Kombu's Redis transport would put it into its list, in parts.

    Every other part is the name of what the task has in its place: ``id``, or ``label`` (:func:`label_of`).
    """
    return tuple(re.split(f"(id|label){_STAND_IN}", _template(name, queue, priority)))


def label_of(task: TaskRecord) -> str:
    """The label of ``task`` as it is written in its message."""
    return encode_basestring_ascii(f"({task.label!r},)")[1:-1]


def _template(name: str, queue: str, priority: Priority) -> str:
    """A message with stand-ins, made by Celery itself on Kombu's transport in memory."""
    with Connection("memory://") as connection, connection.channel() as channel:
        number = transport_priority(priority, "redis")
        options: dict[str, Any] = {"task_id": _ID, "queue": queue, "priority": number, "argsrepr": _LABEL}
        options["headers"] = {HELD: 1}
        app.send_task(name, producer=Producer(channel), ignore_result=True, **options)
        virtual: Any = channel
        message = virtual._get(queue)  # noqa: SLF001 - what was put, not what a consumer makes of it
    message["properties"]["delivery_tag"] = _ID  # copies that are published later have tags of their own
    return str(dumps(message))


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
        message, hint = (
            refusal(error, settings().broker)
            or answer(error)
            or (
                f"does not answer: {str(error).rstrip('.')}",
                "Is it running, and is TTA_BROKER_URL right (rediss:// or amqps:// only where it speaks TLS)?",
            )
        )
        raise BrokerUnavailable(f"The broker at {without_password(settings().broker)} {message}.", hint) from error
