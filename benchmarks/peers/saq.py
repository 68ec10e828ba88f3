"""SAQ: `Queue.map` hands all in, and waits for all results in the producer."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis]==0.26.*", "typing-extensions"]
#
# [tool.bench]
# title = "SAQ"
# measures = ["submission", "fanout", "latency"]
# most = 5000
# ///

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from saq import Queue

from benchmarks.peers.protocol import Peer

queue = Queue.from_url(Peer.url)


async def nothing(_context: dict[str, Any], *, number: int) -> int:
    """Do nothing."""
    return number


#: What its worker is started with.
SETTINGS = {"queue": queue, "functions": [("nothing", nothing)], "concurrency": 1}


class Saq(Peer):
    """``slots`` processes of one job at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def connect(self) -> None:
        """See :meth:`Peer.connect`."""
        self.loop.run_until_complete(queue.connect())

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        argv = [sys.executable, "-m", "saq", "benchmarks.peers.saq.SETTINGS", "--workers", str(self.slots)]
        os.execv(sys.executable, argv)  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""

        async def enqueue() -> None:
            for number in range(n):
                await queue.enqueue("nothing", number=number)

        self.loop.run_until_complete(enqueue())

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - a coroutine
        """See :meth:`Peer.fan_out`: it begins in :meth:`fan_in`, as both are one call.

        Retried: what a worker takes while it starts may be swept away by its own look for stuck jobs.
        """
        return queue.map("nothing", [{"number": number} for number in range(n)], retries=3)

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - a coroutine
        """See :meth:`Peer.fan_in`."""
        return len(self.loop.run_until_complete(pending))

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.loop.run_until_complete(queue.apply("nothing", number=1, retries=3))


PEER = Saq
