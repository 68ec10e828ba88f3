"""The process that delivers ends to observers: one thread an observer, each in the one worker that is elected for it.

Nothing waits for an observer: runs and tasks have ended before it is notified. A delivery that raises, or takes longer
than ``observer_timeout_s``, is repeated, by whichever worker is elected then; after ``observer_tries`` it is given up.

It is a process of its own because observers are anybody's code: their threads and locks must not be in the process that
forks the pool. It ends with its worker, however that ends, and delivers what is due before.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Final

import redis

from tta_tasks import plugins
from tta_tasks.connection import connect
from tta_tasks.errors import ObserverFailed, TransientError, UnknownEngine
from tta_tasks.kinds import RetryPolicy
from tta_tasks.ledger import Ledger
from tta_tasks.ledger.election import Election
from tta_tasks.ledger.ends import Pending
from tta_tasks.models import End
from tta_tasks.protocols import Observer
from tta_tasks.settings import Settings, settings

log = logging.getLogger(__name__)

#: Seconds that the elected worker waits for an end before it renews its election, and others between two attempts.
WAIT_S: Final = 1.0
#: Ends named in one line of the log.
MAX_NAMED: Final = 10
#: Between two attempts to deliver an end.
BACKOFF: Final = RetryPolicy(backoff_s=1.0, backoff_max_s=300.0, jitter=0.0)


class Courier:
    """Delivers ends to one observer.

    Args:
        observer: Its name is that of its entry point.
        worker: Node name of this worker.
        client: The ledger's Redis.
        chosen: How this process is set up.
    """

    def __init__(self, observer: Observer, worker: str, client: redis.Redis, chosen: Settings) -> None:
        self._observer, self._tasks = observer, observer.tasks
        self._worker = worker
        self._settings = chosen
        self._ledger = Ledger(client, chosen)
        self._ends = self._ledger.ends
        hold_s = chosen.observer_timeout_s + 5 * WAIT_S
        self._election = Election(client, chosen, f"observer:{observer.name}", hold_s)
        self._delays = [BACKOFF.delay_s(tried) for tried in range(chosen.observer_tries - 1)]
        self._call: threading.Thread | None = None
        #: When it makes no more attempts, on the monotonic clock.
        self.until = math.inf

    def elected(self) -> bool:
        """Whether this worker is the one that delivers now; not while an earlier delivery of its still hangs."""
        if self._call is not None and self._call.is_alive():
            return False
        return self._election.elected(self._worker)

    def resign(self) -> None:
        """Let another worker deliver at once."""
        self._election.resign(self._worker)

    def deliver(self, wait_s: float) -> None:
        """Deliver what is due; wait up to ``wait_s`` for something new."""
        name = self._observer.name
        self._ends.open(name, start="0")  # it is kept, and made again if it has expired
        self._ends.fetch(name, wait_s, tasks=self._tasks)
        given_up = []
        for pending in self._ends.pending(name):
            if pending.attempts > len(self._delays):
                given_up.append(pending)
            elif pending.attempts and pending.idle_s < self._delays[pending.attempts - 1]:
                continue
            elif time.monotonic() > self.until or not self.elected():
                break
            else:
                self._attempt(pending)
        self._give_up(given_up)

    def _attempt(self, pending: Pending) -> None:
        """Make one attempt to deliver an end."""
        fields = self._ends.begin(self._observer.name, pending)
        try:
            if fields is not None:
                self._notify(self._ends.end_of(pending, fields))
        except Exception as error:  # noqa: BLE001 - an observer is anybody's code
            self._count("failed", 1)
            log.warning("Observer %s, attempt %d: %s", self._observer.name, pending.attempts + 1, error)
        else:
            self._ends.acknowledge(self._observer.name, [pending])
            self._count("delivered" if fields is not None else "given_up", 1)

    def _give_up(self, pending: Sequence[Pending]) -> None:
        if pending:
            self._ends.acknowledge(self._observer.name, pending)
            self._count("given_up", len(pending))
            tries = len(self._delays) + 1
            named = ", ".join(each.id for each in pending[:MAX_NAMED])
            log.error(
                "Observer %s: %d ends were given up after %d attempts: %s.",
                *(self._observer.name, len(pending), tries, named),
            )

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
    """The observers of this host that are set up.

    One that cannot be loaded, or is none, is logged and left out: it must not keep the worker from its tasks.
    """
    found: list[Observer] = []
    for name in plugins.names(plugins.OBSERVERS):
        try:
            observer = plugins.create(plugins.OBSERVERS, name, Observer)
            if not observer.available():
                found.append(observer)
        except UnknownEngine as error:
            log.error("%s", error)  # noqa: TRY400 - one line
        except Exception:
            log.exception("Observer %s is not notified", name)
    return found


def main() -> None:
    """Deliver until standard input ends, which the worker holds open, or until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worker", help="node name of the worker")
    worker: str = parser.parse_args().worker
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s", stream=sys.stderr
    )
    stopped, chosen = threading.Event(), settings()
    signal.signal(signal.SIGTERM, partial(_stop, stopped))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker ends first
    threading.Thread(target=_await_end_of_worker, args=(stopped,), daemon=True).start()
    couriers = [Courier(observer, worker, connect(chosen), chosen) for observer in observers()]
    threads = [threading.Thread(target=_run, args=(courier, stopped), daemon=True) for courier in couriers]
    for thread in threads:
        thread.start()
    if threads:
        stopped.wait()
    until = time.monotonic() + chosen.observer_timeout_s
    for courier in couriers:
        courier.until = until
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()) + WAIT_S)


def _stop(stopped: threading.Event, _number: int, _frame: FrameType | None) -> None:
    stopped.set()


def _await_end_of_worker(stopped: threading.Event) -> None:
    sys.stdin.buffer.read()
    stopped.set()


def _run(courier: Courier, stopped: threading.Event) -> None:
    while not stopped.is_set():
        if not _done(partial(_deliver, courier, WAIT_S)):
            stopped.wait(WAIT_S)
    _done(partial(_deliver, courier, 0.0))
    _done(courier.resign)


def _deliver(courier: Courier, wait_s: float) -> None:
    if not courier.elected():
        raise ObserverFailed("Another worker delivers.")
    courier.deliver(wait_s)


def _done(step: Callable[[], None]) -> bool:
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


if __name__ == "__main__":
    main()
