"""The workers of the chaos suite, each a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.server import children

ROOT = Path(__file__).parents[2]


class Crew:
    """Workers that are killed and replaced.

    Args:
        folder: Where their logs go.
        argv: What one of them runs after ``python -m celery``; ``{number}`` is its number.
        environment: Their environment.
    """

    def __init__(self, folder: Path, argv: Sequence[str], environment: dict[str, str]) -> None:
        self._folder = folder
        self._argv = argv
        self._environment = os.environ | environment
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._home = threading.Event()
        #: How often a worker ended though nobody killed it.
        self.fell = 0

    def start(self, number: int) -> None:
        """Start worker ``number``, or the one that takes its place."""
        argv = [sys.executable, "-m", "celery", *(part.format(number=number) for part in self._argv)]
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            worker = subprocess.Popen(
                argv, env=self._environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self._workers[number] = worker

    def signal(self, number: int, how: signal.Signals) -> None:
        """Send a signal to worker ``number`` and all its pool."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._workers[number].pid, how)

    def kill(self, number: int) -> None:
        """End worker ``number`` as a host that dies does."""
        self.signal(number, signal.SIGKILL)
        self._workers[number].wait()

    def kill_child(self, number: int, index: int) -> bool:
        """End one process of the worker's pool; ``False`` when it has none."""
        pool = sorted(children(self._workers[number].pid))
        if pool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pool[index % len(pool)], signal.SIGKILL)
        return bool(pool)

    def replace(self, number: int) -> None:
        """End worker ``number`` as a host that dies does, and start another in its place."""
        with self._lock:
            self.kill(number)
            self.start(number)

    def watch(self) -> None:
        """Start those again that end by themselves, as any supervisor does, until the crew is sent home."""
        while not self._home.wait(0.5):
            with self._lock:
                for number, worker in list(self._workers.items()):
                    if worker.poll() is not None:
                        self.fell += 1
                        self.start(number)

    def stop(self, within_s: float = 30.0) -> list[int]:
        """Ask all to end; answer the numbers of those that had to be killed."""
        self._home.set()
        for number, worker in self._workers.items():
            self.signal(number, signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
        stubborn = []
        for number, worker in self._workers.items():
            try:
                worker.wait(within_s)
            except subprocess.TimeoutExpired:
                stubborn.append(number)
                self.kill(number)
        return stubborn

    def end(self) -> None:
        """End whatever is left."""
        self._home.set()
        with self._lock:
            for number in self._workers:
                self.kill(number)
