"""A system under measurement: its workers and its producer, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
import redis

from benchmarks import cost
from benchmarks.environments import Candidate
from orchestrator.local.children import Child, tail

ROOT = Path(__file__).parents[1]


class Failed(Exception):
    """A system did not do what it was asked."""


@dataclass
class System:
    """One candidate, running.

    Args:
        peer: Which.
        python: The interpreter with its requirements.
        url: The broker, with a database of its own.
        folder: Where its logs and files go.
        slots: Tasks at once.
        environment: More variables.
    """

    peer: Candidate
    python: str
    url: str
    folder: Path
    slots: int
    environment: dict[str, str] = field(default_factory=dict)
    workers: Child | None = None
    producer: subprocess.Popen[str] | None = None

    @property
    def broker(self) -> redis.Redis:
        """The broker, beside whatever the system does there."""
        return redis.Redis.from_url(self.url)

    def start(self, *, workers: bool = True) -> Self:
        """Start producer and workers. They are stopped by :meth:`end`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TTA_", "CELERY_"))},
            "BENCH_URL": self.url,
            "BENCH_SLOTS": str(self.slots),
            "BENCH_FOLDER": str(self.folder),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "benchmarks" / "installed"))),
            "PYTHONWARNINGS": "ignore",
            "TTA_BROKER_URL": self.url,
            "TTA_CACHE_DIR": str(self.folder / "cache"),
            "TTA_STATE_DIR": str(self.folder / "state"),
            **self.environment,
        }
        argv = [self.python, "-m", "benchmarks.peers", self.peer.name]
        if workers:
            self.workers = Child.start([*argv, "work"], log=self.folder / "workers.log", env=variables)
        with (self.folder / "producer.log").open("ab") as log:
            tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
            self.producer = subprocess.Popen(
                [*tether, *argv, "produce"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                start_new_session=True,
                text=True,
            )
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End everything it has started."""
        for pid in self._pids():
            for process in cost.tree(pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        if self.workers is not None:
            self.workers.process.wait()
        if self.producer is not None:
            self.producer.wait()
            for pipe in (self.producer.stdin, self.producer.stdout):
                _close(pipe)

    def ask(self, what: str, within_s: float = 300.0, **question: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Have the producer do something; answer what it says.

        Raises:
            Failed: It ended, or took too long.
        """
        if self.producer is None or self.producer.stdin is None or self.producer.stdout is None:
            raise Failed(f"{self.peer.name} was not started.")
        try:
            self.producer.stdin.write(json.dumps({"do": what, **question}) + "\n")
            self.producer.stdin.flush()
        except BrokenPipeError:
            raise self._failure("its producer has ended") from None
        ready, _, _ = select.select([self.producer.stdout], [], [], within_s)
        line = self.producer.stdout.readline() if ready else ""
        if not line:
            raise self._failure(f"no answer to {what} within {within_s:.0f} s" if not ready else "its producer ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def measure(self, what: str, within_s: float = 300.0, **question: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """As :meth:`ask`, with the CPU seconds that it took."""
        with self._spent() as spent:
            answer = self.ask(what, within_s, **question)
        return answer | _cpu(spent)

    def rest(self, seconds: float) -> dict[str, Any]:
        """Ask nothing for so long; answer the CPU seconds that this took."""
        with self._spent() as spent:
            time.sleep(seconds)
        return {"seconds": seconds, **_cpu(spent)}

    @contextlib.contextmanager
    def _spent(self) -> Iterator[cost.Spent]:
        if self.producer is None:
            raise Failed(f"{self.peer.name} was not started.")
        workers = self.workers.process.pid if self.workers else None
        with self.broker as broker, cost.spent(self.producer.pid, workers, broker) as spent:
            yield spent

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run for the length of the block; it stands still before and after, and costs nothing."""
        self._each("resume")
        try:
            yield
        finally:
            self.suspend()

    def suspend(self) -> None:
        """Have it stand still."""
        self._each("suspend")

    def clear(self) -> None:
        """Empty its database, but for what kombu's producers think is declared there."""
        with self.broker as broker:
            keys = [key for key in broker.scan_iter(count=5000) if b"_kombu.binding" not in key]
            for start in range(0, len(keys), 1000):
                broker.unlink(*keys[start : start + 1000])

    def memory(self) -> dict[str, int]:
        """Resident bytes of producer, workers and broker."""
        with self.broker as broker:
            used: dict[str, Any] = broker.info("memory")
        return {
            "rss_producer": cost.rss_bytes(self.producer.pid) if self.producer else 0,
            "rss_workers": cost.rss_bytes(self.workers.process.pid) if self.workers else 0,
            "broker_used": int(used["used_memory"]),
        }

    def _each(self, how: str) -> None:
        for pid in self._pids():
            for process in cost.tree(pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    getattr(process, how)()

    def _pids(self) -> list[int]:
        running = (self.workers.process if self.workers else None, self.producer)
        return [process.pid for process in running if process is not None]

    def _failure(self, why: str) -> Failed:
        time.sleep(0.1)  # what it said last may still be on its way
        said = tail(self.folder / "producer.log") or tail(self.folder / "workers.log")
        return Failed(f"{self.peer.name}: {why}: {_last_word(said)}")


def _cpu(spent: cost.Spent) -> dict[str, float]:
    return {f"cpu_{name}": round(value, 4) for name, value in asdict(spent).items()}


def _last_word(said: str) -> str:
    """The error in a traceback, whatever follows it; without the folders of this machine."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)]
    return (errors or lines or [""])[-1].strip()[:200]


def _close(pipe: IO[str] | None) -> None:
    with contextlib.suppress(OSError):
        if pipe is not None:
            pipe.close()
