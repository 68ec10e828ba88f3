"""Has observers notified: keeps ends for them, and runs the process that delivers (:mod:`workers.process.courier`)."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from celery import bootsteps

from tta_tasks import folders, stack
from tta_tasks.errors import TransientError
from tta_tasks.ledger import Ledger
from tta_tasks.settings import settings
from workers.process.courier import WAIT_S, observers

log = logging.getLogger(__name__)

#: Seconds before a courier that has died is started again.
RESTART_S: Final = 5.0


class Observing(bootsteps.StartStopStep):
    """Worker step: keeps a courier running while there are observers."""

    # Neither threads nor pipes of its own may be in the processes that the pool forks.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._courier: subprocess.Popen[bytes] | None = None

    def start(self, worker: Any) -> None:  # noqa: ANN401 - Celery's own
        """Keep ends from now on, before the first task is claimed, and start the courier."""
        found, ends = observers(), Ledger.connect(settings()).ends
        try:
            for observer in found:
                ends.open(observer.name)
        except TransientError as error:
            log.warning("Observers are not notified of what ends before the ledger is reached: %s", error)
        if found:
            self._launch(worker.hostname)
            threading.Thread(target=self._keep, args=(worker.hostname,), name="observing", daemon=True).start()

    def stop(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """Have what is due delivered, within the time of one delivery."""
        self._stopped.set()
        if self._courier is not None and self._courier.stdin is not None:
            self._courier.stdin.close()  # unlike a signal, this is noticed also if it has not come so far yet
            try:
                self._courier.wait(settings().observer_timeout_s + 3 * WAIT_S)
            except subprocess.TimeoutExpired:
                self._courier.kill()

    def _launch(self, hostname: str) -> None:
        with _stack_lock(settings().state_dir) as lock:
            # In a session of its own: what ends the worker's group must not end a delivery. It ends with its input.
            self._courier = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "workers.process.courier", hostname],
                stdin=subprocess.PIPE,
                start_new_session=True,
                pass_fds=lock,
            )

    def _keep(self, hostname: str) -> None:
        while self._courier is not None:
            code = self._courier.wait()
            if self._stopped.wait(RESTART_S):
                return
            log.warning("The courier has ended with %d; it is started again.", code)
            self._launch(hostname)


@contextlib.contextmanager
def _stack_lock(state_dir: Path) -> Iterator[tuple[int, ...]]:
    """What a courier inherits so that the local stack, if this is one's worker, keeps its broker up until it ends."""
    state = folders.found(state_dir, folders.STATE)
    if state is None or not (state / stack.LOCK).exists():
        yield ()
        return
    with folders.opened(state / stack.COURIERS, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield (lock.fileno(),)
