"""Whether urgent work goes first, by Redis' own log: it has every push and every pop, in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tta_tasks.queues import NAMES, REDIS_STEPS

#: What adds a message to a list, and what takes one. ``BRPOP`` is logged as what it came to.
_STEPS = {b"LPUSH": 1, b"RPUSH": 1, b"RPOP": -1}


class Handed(NamedTuple):
    """Messages that Redis handed out, by its log."""

    popped: int
    #: Those of them that were while a more urgent one waited.
    passed: int


def passed_over(folder: Path, prefix: str) -> Handed:
    """Count the messages that were handed out, all queues together, as each worker here takes from all of them.

    Args:
        folder: Where the server keeps its append-only log, which was never rewritten.
        prefix: Of the installation's keys.
    """
    ranks = {
        f"{prefix}{queue}{f':{step}' if rank else ''}".encode(): rank
        for queue in NAMES
        for rank, step in enumerate(REDIS_STEPS)
    }
    waiting: Counter[int] = Counter()
    popped = passed = 0
    for path in sorted(folder.rglob("*.incr.aof")):
        with path.open("rb") as log:
            for command in _commands(log):
                step = _STEPS.get(command[0].upper())
                if step is None or command[1] not in ranks:
                    continue
                rank = ranks[command[1]]
                waiting[rank] += step
                if step < 0:
                    popped += 1
                    passed += any(waiting[urgent] > 0 for urgent in range(rank))
    return Handed(popped, passed)


def _commands(log: BinaryIO) -> Iterator[list[bytes]]:
    """The commands of an append-only log; what a death cut short is its end."""
    while line := log.readline():
        if line.startswith(b"*"):
            yield [log.read(int(log.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
