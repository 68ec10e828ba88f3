"""Keeps unacknowledged messages of a living worker from being handed to another one.

On Redis a message that is not acknowledged within the visibility timeout is delivered again, however healthy its worker
is. With a timeout longer than any task, work of a dead host would wait as long. So the timeout is short, and a worker
renews its own messages three times within it.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import bootsteps

log = logging.getLogger(__name__)


class Lease(bootsteps.StartStopStep):
    """Consumer step: renews the lease on every message this worker holds."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(consumer, **kwargs)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin to renew, where the transport is one that needs it."""
        channel = consumer.task_consumer.channel
        if getattr(channel, "unacked_index_key", None) is None:
            return
        every = consumer.app.conf.broker_transport_options["visibility_timeout"] / 3
        self._timer = consumer.timer.call_repeatedly(every, renew, (channel,))

    def stop(self, consumer: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """Stop renewing; what is still held goes to another worker within the timeout."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def renew(channel: Any) -> int:  # noqa: ANN401 - kombu's Redis channel
    """Renew the messages that ``channel`` has delivered and not acknowledged; answer how many."""
    tags = list(channel.qos._delivered)  # noqa: SLF001 - kombu keeps them nowhere else
    if tags:
        now = time.time()
        with channel.conn_or_acquire() as client:
            # XX: never bring back one that was acknowledged meanwhile.
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)
    return len(tags)
