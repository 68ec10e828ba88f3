"""CPU seconds and memory of process trees and of the broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import redis


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pid: int) -> float:
    """CPU seconds so far of a process and all below it, those that have ended included. Steps of 10 ms."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times: Any = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; what they share counts for each."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def broker_cpu_s(client: redis.Redis) -> float:
    """CPU seconds of the server so far, its background threads included."""
    used: dict[str, Any] = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


@dataclass
class Spent:
    """CPU seconds that were spent within a block."""

    producer_s: float = 0.0
    workers_s: float = 0.0
    broker_s: float = 0.0


@contextlib.contextmanager
def spent(producer: int, workers: int | None, broker: redis.Redis) -> Iterator[Spent]:
    """Measure what two process trees and the broker spend; complete when the block has ended."""

    def read() -> tuple[float, float, float]:
        return cpu_s(producer), cpu_s(workers) if workers else 0.0, broker_cpu_s(broker)

    before = read()
    result = Spent()
    yield result
    result.producer_s, result.workers_s, result.broker_s = (b - a for a, b in zip(before, read(), strict=True))
