"""What all systems share: the broker, the folder, the conditions."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from benchmarks import environments
from benchmarks.environments import Candidate
from benchmarks.system import ROOT, Failed, System
from orchestrator.local.broker import Broker

#: Valkey's number of databases.
DATABASES = 16


@dataclass
class Arena:
    """One embedded broker, append-only file on, that every system uses in a database of its own.

    Args:
        folder: Where its data and the systems' logs go.
        broker: The server.
        cache: Where the peers' environments are kept.
        names: The peers that take part.
        slots: Tasks at once, of each.
    """

    folder: Path
    broker: Broker
    cache: Path
    names: Sequence[str]
    slots: int
    #: What could not be measured, and why.
    failures: list[str] = field(default_factory=list)

    def candidates(self, measure: str) -> list[Candidate]:
        """The peers that take part in ``measure``, in a fixed order."""
        return [peer for name in self.names if measure in (peer := environments.candidate(name)).measures]

    @contextlib.contextmanager
    def system(
        self, peer: Candidate, *, slots: int | None = None, workers: bool = True, **variables: str
    ) -> Iterator[System]:
        """Start one system on an empty database; it ends with the block."""
        python = environments.interpreter(peer, self.cache)
        database = environments.names().index(peer.name) % DATABASES
        url = f"{self.broker.url.rpartition('/')[0]}/{database}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        system = System(peer, python, url, self.folder / peer.name, slots or self.slots, variables)
        with system.start(workers=workers):
            yield system

    @contextlib.contextmanager
    def systems(self, peers: Sequence[Candidate], **options: Any) -> Iterator[list[System]]:  # noqa: ANN401 - passed on
        """Start several as of :meth:`system`, see that each works, and have all stand still until one is measured."""
        with contextlib.ExitStack() as stack:
            started = []
            for peer in peers:
                system = stack.enter_context(self.system(peer, **options))
                try:
                    system.ask("fanout" if options.get("workers", True) else "submission", peer.patience_s, n=4)
                except Failed as error:
                    self.failures.append(f"{error}")
                    system.end()
                    continue
                system.suspend()
                started.append(system)
            yield started


@contextlib.contextmanager
def arena(cache: Path, names: Sequence[str], slots: int) -> Iterator[Arena]:
    """An arena that is gone with the block."""
    folder = Path(tempfile.mkdtemp(prefix="tta-bench-"))
    broker = Broker(folder, port=0)
    try:
        broker.start()
        yield Arena(folder, broker, cache, names, slots)
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def conditions() -> dict[str, Any]:
    """The machine, the versions, the load at the beginning."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _commit() -> str:
    """The commit, and whether what is measured differs from it."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607

    changed = git("diff", "--quiet", "HEAD", "--", "tta_tasks", "workers", "orchestrator", "benchmarks").returncode
    return git("rev-parse", "--short", "HEAD").stdout.strip() + ("-dirty" if changed else "")


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or sys.platform
