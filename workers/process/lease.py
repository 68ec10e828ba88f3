"""Signs of life: a worker keeps what it holds, as long as it lives and no longer.

On Redis a message that is not acknowledged within the visibility timeout is delivered again, however healthy its worker
is. With a timeout longer than any task, work of a dead host would wait as long. So the timeout is short, and every
``lease_renewal_s`` a worker renews what it holds: its messages in the broker, its running tasks and itself in the
ledger.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

from celery import bootsteps
from celery.worker import state

from tta_tasks.errors import StoreUnavailable
from tta_tasks.kinds import BY_TASK
from tta_tasks.ledger import Ledger
from tta_tasks.queues import NAMES
from tta_tasks.settings import settings

log = logging.getLogger(__name__)


class Lease(bootsteps.StartStopStep):
    """Consumer step: renews the lease on every message that this worker holds, and its own."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(consumer, **kwargs)
        self._ledger = Ledger.connect(settings())
        self._timer: Any = None
        # kombu trips over what is no message at all, once it has taken it from the queue; that must not end the worker.
        consumer.channel_errors = (*consumer.channel_errors, ValueError, TypeError)

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin to renew."""
        with contextlib.suppress(StoreUnavailable):
            if warning := self._ledger.clock.warning():
                log.warning("%s", warning)
        # When a connection breaks, kombu would give back what was delivered on it, while the pool is at work on it.
        consumer.task_consumer.channel.do_restore = False
        self._renew(consumer)
        self._timer = consumer.timer.call_repeatedly(settings().lease_renewal_s, self._renew, (consumer,))

    def stop(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        """Stop renewing; what a worker that ends still holds then is given back at once, else within the timeout."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (state.should_stop, state.should_terminate) != (None, None) and consumer.task_consumer:
            consumer.task_consumer.channel.do_restore = True
        with contextlib.suppress(StoreUnavailable):  # it will be missed soon enough
            self._ledger.worker_registry.deregister(consumer.hostname, _queues(consumer), _slots(consumer))

    def _renew(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        channel = consumer.task_consumer.channel
        try:
            if hasattr(channel, "unacked_index_key"):
                renew_messages(channel, self._ledger.clock.now())
            self._ledger.worker_registry.register(consumer.hostname, _queues(consumer), _slots(consumer))
        except StoreUnavailable as error:
            log.warning("The worker could not say that it is there: %s", error)


class Holding(bootsteps.StartStopStep):
    """Worker step: a thread that renews the lease on every running task, until the process ends.

    The event loop could not: it stands still while a worker that was asked to end finishes what it does.
    """

    def start(self, worker: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin to renew."""
        threading.Thread(target=_hold, args=(worker.hostname,), name="lease", daemon=True).start()


def _hold(worker: str) -> None:
    ledger = Ledger.connect(settings())
    while True:
        time.sleep(settings().lease_renewal_s)
        try:
            ledger.renew([(request.id, BY_TASK[request.name].queue) for request in _active()], worker)
        except StoreUnavailable as error:
            log.warning("Leases were not renewed: %s", error)
        except Exception:
            # Whatever it was: without this thread, all that the worker does would be taken for lost.
            log.exception("Leases were not renewed")


def _active() -> list[Any]:
    """The requests for declared tasks that the pool is at work on."""
    while True:
        with contextlib.suppress(RuntimeError):  # the set changed meanwhile
            return [request for request in state.active_requests if request.name in BY_TASK]


def _queues(consumer: Any) -> list[str]:  # noqa: ANN401 - Celery's own
    return [name for name in consumer.app.amqp.queues.consume_from if name in NAMES]


def _slots(consumer: Any) -> int:  # noqa: ANN401 - Celery's own
    return int(consumer.controller.concurrency or 1)


def renew_messages(channel: Any, now: float) -> int:  # noqa: ANN401 - kombu's Redis channel
    """Renew the messages that ``channel`` has delivered and not acknowledged; answer how many."""
    tags = list(channel.qos._delivered)  # noqa: SLF001 - kombu keeps them nowhere else
    if tags:
        with channel.conn_or_acquire() as client:
            # XX: never bring back one that was acknowledged meanwhile.
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)
    return len(tags)
