"""What a fleet shares of a model, in Redis: places for agents, requests a minute, a circuit breaker, a run's money."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import redis
from pybreaker import (
    STATE_CLOSED,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerListener,
    CircuitBreakerState,
    CircuitRedisStorage,
)

from tta_tasks.connection import connect, translated
from tta_tasks.errors import ModelUnavailable
from tta_tasks.lua import Script
from tta_tasks.settings import Settings
from workers.openhands.outcome import ModelFault

#: An agent whose worker has died gives its place back after this many seconds.
LEASE_S = 30.0
#: Seconds between two looks for a free place or turn, on average.
LOOK_S = 0.5
#: Failures in a row that open a model's breaker, and seconds until somebody may try it again.
FAILURES, REST = 3, timedelta(seconds=60)
#: Longest time a trial is believed to be going on.
TRIAL_S = 120

T = TypeVar("T")


@dataclass(frozen=True)
class Wait:
    """How a wait goes on, and when it does not."""

    cancelled: Callable[[], bool]
    progress: Callable[[str], None]
    until: float

    def pause(self, message: str) -> bool:
        """Wait a little; answer whether there is a point in looking again."""
        if self.cancelled() or time.monotonic() > self.until:
            return False
        self.progress(message)
        time.sleep(LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - only spreads the looks
        return True


class _BreakerListener(CircuitBreakerListener):
    """Tells each new state of a breaker."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def state_change(self, cb: CircuitBreaker, old_state: object, new_state: CircuitBreakerState) -> None:  # noqa: ARG002 - the library's
        self._tell(new_state.name)


class FleetLimits:
    """The fleet's limits, by the name of a model."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis
        self._redis = connect(settings)
        self._prefix = f"{settings.key_prefix}model:"
        self._spent = f"{settings.key_prefix}spent:"
        #: What :class:`~tta_tasks.fleet.Fleet` shows of breakers.
        self._states = f"{settings.key_prefix}breakers"
        self._keep_s = settings.retention_s
        self._take = Script(
            self._redis,
            Path(__file__).with_name("take_place.lua"),
            prefix=settings.key_prefix,
        )
        # Imported for agents only: it takes longer than all else of a task that is answered from the cache.
        from limits.storage import RedisStorage  # noqa: PLC0415
        from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

        storage = RedisStorage(
            self._url, connection_pool=self._redis.connection_pool, key_prefix=f"{self._prefix}requests"
        )
        self._windows = MovingWindowRateLimiter(storage)

    @contextmanager
    def place(self, model: str, places: int, wait: Wait) -> Iterator[None]:
        """One of a model's ``places`` for as long as the block lasts.

        Raises:
            ModelUnavailable: None became free in time.
            StoreUnavailable: Redis does not answer.
        """
        key, holder = f"{self._prefix}places:{model}", uuid.uuid4().hex
        while not self._taken(model, holder, places):
            if not wait.pause(f"waiting for a place at {model}"):
                raise ModelUnavailable(f"All {places} places at the model {model!r} were taken.")
        done = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(model, holder, places, done), name="lease")
        renewal.start()
        try:
            yield
        finally:
            done.set()
            renewal.join()
            with translated(self._url):
                self._redis.zrem(key, holder)

    def turn(self, model: str, per_minute: int, wait: Wait) -> bool:
        """Wait until one more request may be sent; answer whether it may be, before the wait had to end.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if not per_minute:
            return True
        from limits import RateLimitItemPerMinute  # noqa: PLC0415 - as above

        window = RateLimitItemPerMinute(per_minute)
        while True:
            with translated(self._url):
                if self._windows.hit(window, model):
                    return True
            if not wait.pause(f"waiting for {model}'s next minute"):
                return False

    def spend(self, run_id: str, usd: float) -> float:
        """Add to what a run has spent; answer all of it, in US dollars.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        with translated(self._url), self._redis.pipeline() as pipe:
            pipe.incrbyfloat(self._spent + run_id, usd)
            pipe.expire(self._spent + run_id, self._keep_s)
            return float(pipe.execute()[0])

    def guarded(self, model: str, work: Callable[[], T]) -> T:
        """Do ``work`` unless the model's breaker is open; a :class:`ModelFault` counts against the model.

        After a rest one worker of the fleet tries; when it succeeds, the breaker closes for all.

        Raises:
            ModelUnavailable: The breaker is open, or another worker is trying.
            StoreUnavailable: Redis does not answer.
        """
        breaker = self._breaker(model)
        if breaker.current_state == STATE_CLOSED:
            return self._called(breaker, model, work)
        # The library lets everybody through once the rest is over; one is enough to find out.
        trial = f"{self._prefix}trial:{model}"
        with translated(self._url):
            if not self._redis.set(trial, 1, nx=True, ex=TRIAL_S):
                raise ModelUnavailable(f"The model {model!r} rests after failures, and another worker tries it.")
        try:
            return self._called(breaker, model, work)
        finally:
            with translated(self._url):
                self._redis.delete(trial)

    def open(self, model: str) -> None:
        """Let nobody use a model for a while, after a failure that waiting will hardly mend."""
        self._breaker(model).open()

    def is_resting(self, model: str) -> bool:
        """Whether nobody may use a model now."""
        storage = self._breaker(model)._state_storage  # noqa: SLF001 - the library shows it nowhere else
        opened_at = storage.opened_at
        return bool(storage.state == STATE_OPEN and opened_at and datetime.now(UTC) < opened_at + REST)

    def _taken(self, model: str, holder: str, places: int) -> bool:
        with translated(self._url):
            return bool(self._take(model=model, holder=holder, places=places, lease=LEASE_S))

    def _renew(self, model: str, holder: str, places: int, done: threading.Event) -> None:
        while not done.wait(LEASE_S / 3):
            try:
                # Lost, when Redis was away for long, it is taken again; the others have to see to the bound.
                self._take(model=model, holder=holder, places=places, lease=LEASE_S)
            except redis.RedisError:
                continue  # the next time, or the lease ends

    def _called(self, breaker: CircuitBreaker, model: str, work: Callable[[], T]) -> T:
        try:
            return breaker.call(work)
        except CircuitBreakerError as error:
            raise ModelUnavailable(f"The model {model!r} rests after {FAILURES} failures.") from error

    def _breaker(self, model: str) -> CircuitBreaker:
        service = f"model {model}"
        with translated(self._url):
            storage = CircuitRedisStorage(STATE_CLOSED, self._redis, namespace=f"{self._prefix}breaker:{model}")
            self._redis.hsetnx(self._states, service, STATE_CLOSED)
            self._redis.expire(self._states, self._keep_s)
        return CircuitBreaker(
            listeners=[_BreakerListener(lambda state: self._redis.hset(self._states, service, state))],
            fail_max=FAILURES,
            reset_timeout=REST.total_seconds(),
            state_storage=storage,
            exclude=[lambda error: not isinstance(error, ModelFault)],
            throw_new_error_on_trip=False,
        )
