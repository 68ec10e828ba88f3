"""The seeded schedule of what goes wrong."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.crew import Crew
from tests.chaos.server import Proxy, Server

#: How often each comes, against the others.
WEIGHTS: Final = {
    "kill a pool process": 6,
    "kill a worker": 4,
    "pause a worker past its lease": 2,
    "pause a worker past its lease, then kill it": 2,
    "kill the server": 2,
    "restart the server": 1,
    "cut all connections": 3,
    "fill the disk": 1,
}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        at: Seconds after the beginning.
        name: One of :data:`WEIGHTS`.
        worker: Whom it concerns.
        pick: A number to choose by.
    """

    at: float
    name: str
    worker: int
    pick: int


def schedule(seed: int, seconds: float, every_s: float, workers: int) -> list[Fault]:
    """One fault about each ``every_s`` seconds; the same for the same arguments. Each kind comes before one repeats."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - must be repeatable
    faults: list[Fault] = []
    at, deck = 1.0, []  # type: float, list[str]
    while (at := at + chance.uniform(0.6, 1.4) * every_s) < seconds:
        if not deck:
            deck = [name for name, weight in WEIGHTS.items() for _ in range(1 if not faults else weight)]
            chance.shuffle(deck)
        faults.append(Fault(at, deck.pop(), chance.randrange(workers), chance.randrange(1 << 16)))
    return faults


class Havoc:
    """Makes faults happen.

    Args:
        crew: The workers.
        server: Their Redis.
        proxies: What stands before it, and before another broker.
        lease_s: How long a worker may give no sign of life, in seconds.
    """

    def __init__(self, crew: Crew, server: Server, proxies: Sequence[Proxy], lease_s: float) -> None:
        self.crew = crew
        self.server = server
        self._proxies = proxies
        self._lease_s = lease_s
        self.done: Counter[str] = Counter()

    def wreak(self, fault: Fault) -> None:
        """Let one happen, for as long as it lasts."""
        match fault.name:
            case "kill a pool process":
                self.crew.kill_child(fault.worker, fault.pick)
            case "kill a worker":
                self.crew.replace(fault.worker)
            case "pause a worker past its lease":
                self._pause(fault.worker)
            case "pause a worker past its lease, then kill it":
                self._pause(fault.worker, kill=True)
            case "kill the server":
                self._bounce(signal.SIGKILL)
            case "restart the server":
                self._bounce(signal.SIGTERM)
            case "cut all connections":
                for proxy in self._proxies:
                    proxy.cut()
            case "fill the disk":
                self.server.fill_disk()
                time.sleep(2)
                self.server.free_disk()
        self.done[fault.name] += 1

    def _pause(self, number: int, *, kill: bool = False) -> None:
        self.crew.signal(number, signal.SIGSTOP)
        time.sleep(self._lease_s * 1.7)
        if kill:
            self.crew.replace(number)
        else:
            self.crew.signal(number, signal.SIGCONT)

    def _bounce(self, how: signal.Signals) -> None:
        self.server.stop(how)
        time.sleep(0.5)
        self.server.start()
