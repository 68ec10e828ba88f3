"""arq: no callback of many; the producer waits for all results."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["arq==0.28.*"]
#
# [tool.bench]
# title = "arq"
# measures = ["submission", "fanout", "latency"]
# most = 1000
# ///

from __future__ import annotations

import asyncio
import os
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import run_worker

from benchmarks.peers.protocol import Peer


async def nothing(_context: dict[str, Any], number: int) -> int:
    """Do nothing."""
    return number


class WorkerSettings:
    """What its worker is started with."""

    functions = (nothing,)
    redis_settings = RedisSettings.from_dsn(Peer.url)


class Arq(Peer):
    """``slots`` processes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def connect(self) -> None:
        """See :meth:`Peer.connect`."""
        self.pool: Any = self.loop.run_until_complete(create_pool(WorkerSettings.redis_settings))

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        for _ in range(self.slots - 1):
            if os.fork() == 0:
                break
        run_worker(WorkerSettings)

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        self.fan_out(n)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - arq's own
        """See :meth:`Peer.fan_out`."""

        async def enqueue() -> list[Any]:
            return [await self.pool.enqueue_job("nothing", number) for number in range(n)]

        return self.loop.run_until_complete(enqueue())

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - arq's own
        """See :meth:`Peer.fan_in`."""

        async def wait() -> int:
            return len(await asyncio.gather(*(job.result() for job in pending)))

        return self.loop.run_until_complete(wait())

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.fan_in(self.fan_out(1))


PEER = Arq
