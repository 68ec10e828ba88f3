"""Kombu's Redis transport for a worker of ours: the ledger holds what it knows, so that the broker need not.

On Redis, Kombu writes each message down again while a worker has it, in two transactions a message, so that another
worker can give it back. A task of the ledger needs none of that: its lease says who has it, and the reconciler
publishes what nobody has. Whatever else comes, canaries and messages with their own request, is held in Kombu's way.
How long it has been held is told by the ledger's clock: with each host's own, one that is ahead would give back what
another has just taken.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, operator"
# Of Kombu's Redis transport the types know only a part.

from __future__ import annotations

import logging
import time
from functools import cached_property, lru_cache
from typing import Any

from kombu.transport import redis, virtual

from tta_tasks.clock import Clock
from tta_tasks.connection import connect
from tta_tasks.errors import StoreUnavailable
from tta_tasks.publishing import HELD
from tta_tasks.settings import settings
from workers.process import messages

log = logging.getLogger(__name__)


class QoS(redis.QoS):
    """What a channel has delivered and not acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401 - Kombu's own
        """Hold a message: here only, where the ledger holds its task."""
        if _held(message):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Let go of a message for good."""
        if _held(self._delivered.get(delivery_tag)):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - Kombu's own
        """Put a message back into its queue."""
        message = self._delivered.get(tag)
        if not _held(message):
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        elif tag not in self._dirty:
            origin = message.delivery_info["exchange"], message.delivery_info["routing_key"]
            with self.channel.conn_or_acquire(client) as connection:
                self.channel._do_restore_message(message._raw, *origin, connection, leftmost)  # noqa: SLF001 - Kombu's own way


class Channel(redis.Channel):
    """A channel with one client for what does not block, where Kombu makes one for each command."""

    QoS = QoS

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - Kombu's own
        return super()._create_client(asynchronous) if asynchronous else self._one_client

    @cached_property
    def _one_client(self) -> Any:  # noqa: ANN401 - Kombu's own
        return super()._create_client()

    def _disconnect_pools(self) -> None:
        self.__dict__.pop("_one_client", None)
        super()._disconnect_pools()


class Poller(redis.MultiChannelPoller):
    """Tells the event loop of a socket once, not in each turn."""

    #: The event loop, where there is one.
    hub: Any = None

    @property
    def fds(self) -> dict[int, Any]:
        """The sockets that the event loop has to be told of."""
        known = self.hub.readers if self.hub is not None else {}
        return {fd: channel for fd, channel in super().fds.items() if fd not in known}


class Transport(redis.Transport):
    """The transport ``workers.process.transport:Transport``."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Kombu's own
        super().__init__(*args, **kwargs)
        self.cycle = Poller()
        redis.time = _now  # Kombu asks it when a message was taken, and which were taken long ago
        redis.loads = messages.loads  # what is no JSON must not end the worker
        messages.bound_compression()

    def _deliver(self, message: Any, queue: Any) -> None:  # noqa: ANN401 - Kombu's own
        """Hand a message to its consumer; what is none is dropped, and told."""
        if why := messages.fault(message):
            log.error("What came in queue %s is no message, and is dropped: %s.", queue, why)
        else:
            super()._deliver(message, queue)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ANN401 - Kombu's own
        """Let the event loop wait for the channels' sockets."""
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)


def _now() -> float:
    try:
        return _clock().now()
    except StoreUnavailable:
        return time.time()


@lru_cache(maxsize=1)
def _clock() -> Clock:
    return Clock(connect(settings()), settings().redis)


def _held(message: Any) -> bool:  # noqa: ANN401 - Kombu's own
    """Whether the ledger holds the task of ``message``."""
    return message is not None and HELD in (message.headers or {})
