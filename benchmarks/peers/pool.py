"""The standard library's process pool: no broker, nothing kept, one machine."""

# /// script
# [tool.bench]
# title = "ProcessPoolExecutor"
# measures = ["fanout", "latency"]
# most = 10000
# ///

from __future__ import annotations

import signal
from concurrent.futures import Future, ProcessPoolExecutor

from benchmarks.peers.protocol import Peer


def nothing(number: int) -> int:
    """Do nothing."""
    return number


class Pool(Peer):
    """Its workers are the producer's children."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(self.slots)

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        signal.pause()

    def fan_out(self, n: int) -> list[Future[int]]:
        """See :meth:`Peer.fan_out`."""
        return [self.pool.submit(nothing, number) for number in range(n)]

    def fan_in(self, pending: list[Future[int]]) -> int:
        """See :meth:`Peer.fan_in`."""
        return len([future.result() for future in pending])

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.pool.submit(nothing, 1).result()


PEER = Pool
