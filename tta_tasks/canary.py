"""A canary: proof that what is put into a queue is taken out of it and done. That a process lives proves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import redis

from tta_tasks.celery import app
from tta_tasks.clock import Clock
from tta_tasks.connection import connect, translated
from tta_tasks.fleet import FleetState
from tta_tasks.models import Priority
from tta_tasks.publishing import translated as broker_translated
from tta_tasks.queues import transport_priority
from tta_tasks.settings import settings

#: How long an answer proves something, in seconds; also how often a queue gets a canary at most.
FRESH_S = 20.0
POLL_S = 0.1


@app.task(name="tta_tasks.ping", ignore_result=True, send_events=False)
def ping(queue: str) -> None:
    """Say that a worker of ``queue`` did it."""
    with translated(settings().redis):
        _redis().set(_key(queue, "pong"), repr(_clock().now()), ex=600)


def answered(queue: str, within_s: float) -> bool:
    """Whether a canary that was sent to ``queue`` lately, or is sent now, is answered.

    Raises:
        StoreUnavailable: The ledger's Redis does not answer.
        BrokerUnavailable: The broker does not answer.
    """
    if _fresh(queue):
        return True
    with translated(settings().redis):
        first = _redis().set(_key(queue, "ping"), "1", nx=True, px=int(FRESH_S * 1000))
    if first:
        priority = transport_priority(Priority.CRITICAL, settings().transport)
        with broker_translated():
            ping.apply_async((queue,), queue=queue, priority=priority, expires=FRESH_S)
    return _until(lambda: _fresh(queue), within_s)


def busy(queue: str, state: FleetState) -> bool:
    """Whether no slot of the queue's workers is free for a canary, while all that runs shows signs of life."""
    seen = next(found for found in state.queues if found.name == queue)
    return 0 < seen.slots <= seen.running and seen.lease_age_s < settings().visibility_timeout_s


def _fresh(queue: str) -> bool:
    with translated(settings().redis):
        at: Any = _redis().get(_key(queue, "pong"))
    return at is not None and _clock().now() - float(at) < FRESH_S


def _until(holds: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(POLL_S)
    return False


def _key(queue: str, what: str) -> str:
    return f"{settings().key_prefix}{what}:{queue}"


@lru_cache(maxsize=1)
def _clock() -> Clock:
    return Clock(_redis(), settings().redis)


@lru_cache(maxsize=1)
def _redis() -> redis.Redis:
    return connect(settings())
