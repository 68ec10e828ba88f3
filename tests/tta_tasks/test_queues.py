"""Queues and priorities."""

from __future__ import annotations

import pytest

from tta_tasks.models import Priority
from tta_tasks.queues import BY_URGENCY, NAMES, named_priority, queues_on, transport_priority


@pytest.mark.parametrize(("transport", "descending"), [("redis", False), ("amqp", True)])
def test_priorities_keep_their_order_on_every_transport(transport: str, descending: bool) -> None:  # noqa: FBT001
    """Most urgent first: the lowest number on Redis, the highest on RabbitMQ."""
    numbers = [transport_priority(priority, transport) for priority in Priority]
    assert numbers == sorted(set(numbers), reverse=descending)
    assert [named_priority(number, transport) for number in numbers] == list(Priority)


def test_rabbitmq_quorum_levels() -> None:
    """CRITICAL and HIGH are above 4, where a quorum queue's high level begins; the others are not."""
    high = [priority for priority in Priority if transport_priority(priority, "amqp") > 4]
    assert high == [Priority.CRITICAL, Priority.HIGH]


def test_order_of_urgency_names_each_queue_once() -> None:
    """A worker of all queues forgets none, and a new queue cannot be left out."""
    assert sorted(BY_URGENCY) == sorted(NAMES)


def test_queues_do_not_share_an_exchange() -> None:
    """A message for one queue reaches no other."""
    found = {(queue.exchange.name, queue.routing_key) for queue in queues_on("redis", ack_within_s=1)}
    assert found == {(name, name) for name in NAMES}


def test_rabbitmq_queues_are_quorum_queues_on_a_topic_exchange() -> None:
    """Replicated, and patient enough for the longest task; each bound by its own name."""
    for queue in queues_on("amqp", ack_within_s=3600):
        assert (queue.exchange.type, queue.routing_key) == ("topic", queue.name)
        assert queue.queue_arguments == {"x-queue-type": "quorum", "x-consumer-timeout": 3_600_000}
