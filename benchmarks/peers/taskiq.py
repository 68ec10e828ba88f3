"""Taskiq on Redis streams, which acknowledge and redeliver; its `gather` waits for all results in the producer."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq==0.13.*", "taskiq-redis==1.2.*"]
#
# [tool.bench]
# title = "Taskiq"
# measures = ["submission", "fanout", "latency"]
# most = 5000
# ///

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from taskiq import gather
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.protocol import Peer

broker = RedisStreamBroker(Peer.url).with_result_backend(RedisAsyncResultBackend(Peer.url))


@broker.task(task_name="nothing")
async def nothing(number: int) -> int:
    """Do nothing."""
    return number


class Taskiq(Peer):
    """``slots`` processes of one event loop each."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def connect(self) -> None:
        """See :meth:`Peer.connect`."""
        self.loop.run_until_complete(broker.startup())

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        argv = [sys.executable, "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker"]
        os.execv(sys.executable, [*argv, "--workers", str(self.slots)])  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        self.fan_out(n)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - Taskiq's own
        """See :meth:`Peer.fan_out`."""

        async def kick() -> list[Any]:
            return [await nothing.kiq(number) for number in range(n)]

        return self.loop.run_until_complete(kick())

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - Taskiq's own
        """See :meth:`Peer.fan_in`."""

        async def wait() -> int:
            return len(await gather(*pending))

        return self.loop.run_until_complete(wait())

    def once(self) -> None:
        """See :meth:`Peer.once`."""

        async def one() -> None:
            await (await nothing.kiq(1)).wait_result()

        self.loop.run_until_complete(one())


PEER = Taskiq
