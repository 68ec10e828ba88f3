"""The process that owns the local stack: starts broker and worker, keeps them up, ends them when nobody uses them.

Everyone who uses the stack holds a shared lock on ``users.lock``. The kernel frees it however they end, so the
supervisor needs only to wait for an exclusive one: when it gets it, nobody is left. It holds it while it shuts down, so
that a newcomer waits, and then starts a stack of its own. Whoever starts one waits for the supervisor, so that imports
only what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from orchestrator.local.broker import Broker
from orchestrator.local.children import Child, tail
from tta_tasks import folders, stack
from tta_tasks.errors import TtaError
from tta_tasks.foreign import discard

#: Seconds between looks whether a child has ended.
EVERY_S = 0.3
#: A child that ends sooner than this after its start, this many times in a row, is not started again.
QUICK_S = 15.0
MAX_QUICK_ENDS = 3
USERS = "users.lock"
FAILURE = "failure.txt"
TARGETS = "targets.toml"


class Ended(Exception):
    """Somebody asked the supervisor to end."""


def main() -> int:
    """Supervise until nobody uses the stack, or until told to end. Exit status 1: the stack could not be kept up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    state: Path = options.state.absolute()
    try:
        with stack.supervised(state):
            _supervise(state, Broker(state, options.port), options.slots, keep=options.keep)
    except Ended:
        return 0
    except (TtaError, OSError) as error:
        with contextlib.suppress(OSError), folders.opened(state / FAILURE, "wb") as file:
            file.write(str(error).encode())
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - its log
        return 1
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise Ended


def _supervise(state: Path, broker: Broker, slots: int, *, keep: bool) -> None:
    worker = WorkerProcess(state, broker, slots)
    try:
        broker.start()
        worker.start()
        started = time.time()
        stack.write(
            state, stack.Stack(pid=os.getpid(), broker_url=broker.url, slots=slots, kept=keep, started_at=started)
        )
        with folders.opened(state / USERS, "ab") as users:
            unused = threading.Event()
            if not keep:
                threading.Thread(target=_await_unused, args=(users.fileno(), unused), daemon=True).start()
            while not unused.wait(EVERY_S):
                _mend(broker)
                worker.mend()
            stack.remove(state)
            _shut_down(worker, broker, state)
    finally:
        stack.remove(state)
        _shut_down(worker, broker, state)


def _shut_down(worker: WorkerProcess, broker: Broker, state: Path) -> None:
    with _undisturbed():
        worker.stop()
        _await_couriers(state)
        broker.stop()


def _await_couriers(state: Path) -> None:
    """Wait until observers were notified of what has ended: no longer than one delivery may take."""
    if not (state / stack.COURIERS).exists():
        return
    from tta_tasks.settings import Settings  # noqa: PLC0415 - not before somebody waits for the stack

    until = time.monotonic() + Settings().observer_timeout_s + EVERY_S
    with folders.opened(state / stack.COURIERS, "ab") as lock:
        while time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(EVERY_S / 10)
            else:
                break


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    yield


def _await_unused(descriptor: int, unused: threading.Event) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unused.set()


def _mend(broker: Broker) -> None:
    if not broker.lives:
        broker.stop()
        broker.start()  # same address, same password, same data


class WorkerProcess:
    """The stack's one worker process: all queues, ``slots`` tasks at once."""

    def __init__(self, state: Path, broker: Broker, slots: int) -> None:
        self._state = state
        self._broker = broker
        self._slots = slots
        self._child: Child | None = None
        self._started_at = 0.0
        self._quick_ends = 0

    def start(self) -> None:
        """Start it; it takes its first task when it is ready."""
        # What a worker that was killed left there goes with the next one.
        temporary = self._state / "tmp"
        discard(temporary)
        temporary.mkdir(mode=0o700)
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "TTA_BROKER_URL": self._broker.url,
            "TTA_STATE_DIR": str(self._state),
            "TTA_TARGETS_FILE": os.environ.get("TTA_TARGETS_FILE") or str(self._state / TARGETS),
        }
        argv = [
            *(sys.executable, "-P", "-m", "workers", "--hostname", f"local-{os.getpid()}@{socket.gethostname()}"),
            *("--concurrency", str(self._slots)),
        ]
        self._child = Child.start(argv, log=self._log, env=environment)
        self._started_at = time.monotonic()

    def mend(self) -> None:
        """Start it again if it has ended.

        Raises:
            TtaError: It keeps ending.
        """
        if self._child is None or self._child.alive:
            return
        self._child.stop(grace_s=0)  # what is left of its group
        quick = time.monotonic() - self._started_at < QUICK_S
        self._quick_ends = self._quick_ends + 1 if quick else 0
        if self._quick_ends >= MAX_QUICK_ENDS:
            raise TtaError(f"The local worker keeps ending: {tail(self._log)}", f"See {self._log}.")
        self.start()

    def stop(self) -> None:
        """End it at once: what it was doing is done again with the next stack.

        Asked politely, it would end its pool first, and a task whose processes are taken away might still tell of a
        failure.
        """
        if self._child is not None:
            self._child.stop(how=signal.SIGKILL, grace_s=5.0)
            self._child = None

    @property
    def _log(self) -> Path:
        return self._state / "logs" / "worker.log"


if __name__ == "__main__":
    raise SystemExit(main())
