"""Notifies observers of ends: one thread an observer, in the one worker that is elected for it.

Nothing waits for an observer: runs and tasks have ended before it is notified. A delivery that raises, or takes longer
than ``observer_timeout_s``, is repeated, by whichever worker is elected then; after ``observer_tries`` it is given up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import redis
from celery import bootsteps

from tta_tasks import plugins
from tta_tasks.connection import connect, translated
from tta_tasks.errors import ObserverFailed, TransientError, UnknownEngine
from tta_tasks.kinds import RetryPolicy
from tta_tasks.ledger import Ledger
from tta_tasks.ledger.ends import Pending
from tta_tasks.models import End
from tta_tasks.protocols import Observer
from tta_tasks.settings import Settings, settings

log = logging.getLogger(__name__)

#: Seconds that the elected worker waits for an end before it renews its election, and others between two attempts.
WAIT_S: Final = 1.0
#: Between two attempts to deliver an end.
BACKOFF: Final = RetryPolicy(backoff_s=1.0, backoff_max_s=300.0, jitter=0.0)


class Courier:
    """Delivers ends to one observer."""

    def __init__(self, observer: Observer, worker: str, client: redis.Redis, chosen: Settings) -> None:
        self._observer = observer
        self._worker = worker
        self._redis = client
        self._settings = chosen
        self._ledger = Ledger(client, chosen)
        self._ends = self._ledger.ends
        self._lock = f"{chosen.key_prefix}observer:{observer.name}"
        self._hold_ms = int(1000 * (chosen.observer_timeout_s + 5 * WAIT_S))
        self._delays = [BACKOFF.delay_s(tried) for tried in range(chosen.observer_tries - 1)]
        self._call: threading.Thread | None = None

    def open(self) -> None:
        """Have ends kept for the observer from now on."""
        self._ends.open(self._observer.name)

    def elected(self) -> bool:
        """Whether this worker is the one that delivers now; not while an earlier delivery of its still hangs."""
        if self._call is not None and self._call.is_alive():
            return False
        with translated(self._settings.redis):
            if self._redis.set(self._lock, self._worker, nx=True, px=self._hold_ms):
                return True
            return self._redis.get(self._lock) == self._worker.encode() and bool(
                self._redis.pexpire(self._lock, self._hold_ms)
            )

    def resign(self) -> None:
        """Let another worker deliver at once."""
        with translated(self._settings.redis):
            if self._redis.get(self._lock) == self._worker.encode():
                self._redis.delete(self._lock)

    def deliver(self, wait_s: float) -> None:
        """Deliver what is due; wait up to ``wait_s`` for something new."""
        name = self._observer.name
        self._ends.open(name, start="0")  # it is kept, and made again if it has expired
        self._ends.fetch(name, wait_s, tasks=self._observer.tasks)
        given_up = []
        for pending in self._ends.pending(name):
            if pending.attempts > len(self._delays):
                given_up.append(pending)
            elif pending.attempts and pending.idle_s < self._delays[pending.attempts - 1]:
                continue
            elif not self._attempted(pending):
                break
        self._give_up(given_up)

    def _attempted(self, pending: Pending) -> bool:
        """Make one attempt to deliver an end; ``False`` if this worker is no longer elected."""
        if not self.elected():
            return False
        end = self._ends.begin(self._observer.name, pending)
        try:
            if end is not None:
                self._notify(end)
        except Exception as error:  # noqa: BLE001 - an observer is anybody's code
            self._count("failed", 1)
            log.warning("Observer %s, attempt %d: %s", self._observer.name, pending.attempts + 1, error)
        else:
            self._ends.acknowledge(self._observer.name, [pending])
            self._count("delivered" if end is not None else "given_up", 1)
        return True

    def _give_up(self, pending: Sequence[Pending]) -> None:
        if pending:
            self._ends.acknowledge(self._observer.name, pending)
            self._count("given_up", len(pending))
            tries = len(self._delays) + 1
            log.error("Observer %s: %d ends were given up after %d attempts.", self._observer.name, len(pending), tries)

    def _count(self, outcome: str, number: int) -> None:
        self._ledger.count(f"notified:{self._observer.name}:{outcome}", number)

    def _notify(self, end: End) -> None:
        """Call the observer, and wait no longer than it may take."""
        failures: list[BaseException] = []
        call = partial(self._called, end, failures)
        self._call = threading.Thread(target=call, name="observer", daemon=True)
        self._call.start()
        self._call.join(self._settings.observer_timeout_s)
        if self._call.is_alive():
            raise ObserverFailed(f"It took longer than {self._settings.observer_timeout_s:g} s.")
        if failures:
            raise failures[0]

    def _called(self, end: End, failures: list[BaseException]) -> None:
        try:
            self._observer.ended(end)
        except BaseException as error:  # noqa: BLE001 - it must not end the thread with a traceback
            failures.append(error)


def observers() -> list[Observer]:
    """The observers of this host that are set up; one that cannot be asked is logged and left out."""
    found: list[Observer] = []
    for name in plugins.names(plugins.OBSERVERS):
        try:
            observer = cast("Observer", plugins.load(plugins.OBSERVERS, name)())
            unavailable = observer.available()
        except UnknownEngine as error:
            log.error("%s", error)  # noqa: TRY400 - one line
        except Exception:
            log.exception("Observer %s is not notified", name)
        else:
            if not unavailable:
                found.append(observer)
    return found


class Observing(bootsteps.StartStopStep):
    """Worker step: a thread for each observer, which delivers while this worker is the elected one."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, worker: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin, before the first task is taken."""
        chosen = settings()
        for observer in observers():
            courier = Courier(observer, worker.hostname, connect(chosen), chosen)
            opened = _attempt(courier.open)
            thread = threading.Thread(target=self._run, args=(courier, opened), name=observer.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """Deliver what is due, within the time of one delivery, and let another worker go on."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(settings().observer_timeout_s)

    def _run(self, courier: Courier, opened: bool) -> None:  # noqa: FBT001 - a thread's argument
        while not self._stopped.wait(0):
            opened = opened or _attempt(courier.open)
            if not (opened and _attempt(partial(_deliver, courier, WAIT_S))):
                self._stopped.wait(WAIT_S)
        _attempt(partial(_deliver, courier, 0.0))
        _attempt(courier.resign)


def _deliver(courier: Courier, wait_s: float) -> None:
    if not courier.elected():
        raise ObserverFailed("Another worker delivers.")
    courier.deliver(wait_s)


def _attempt(step: Callable[[], None]) -> bool:
    """Whether ``step`` was done; whatever it was that kept it from that, the thread goes on."""
    try:
        step()
    except ObserverFailed:
        return False
    except TransientError as error:
        log.warning("Observers are not notified now: %s", error)
        return False
    except Exception:
        log.exception("Observers are not notified now")
        return False
    return True
