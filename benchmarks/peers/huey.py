"""Huey: a chord. What a worker that dies was doing is lost: it does not redeliver."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["huey[redis]==3.5.*"]
#
# [tool.bench]
# title = "Huey (no redelivery)"
# measures = ["submission", "fanout", "latency"]
# most = 5000
# ///

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from huey import RedisHuey, group

from benchmarks.peers.protocol import Peer

huey = RedisHuey("peer", url=Peer.url)


@huey.task()
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@huey.task()
def gather(results: list[int]) -> int:
    """Count the results."""
    return len(results)


class Huey(Peer):
    """``slots`` processes."""

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        consumer = str(Path(sys.executable).with_name("huey_consumer"))
        argv = [consumer, "benchmarks.peers.huey.huey", "--worker-type", "process", "--workers", str(self.slots)]
        os.execv(consumer, argv)  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        for number in range(n):
            nothing(number)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - Huey's own
        """See :meth:`Peer.fan_out`."""
        return huey.enqueue(group([nothing.s(number) for number in range(n)]).then(gather))

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - Huey's own
        """See :meth:`Peer.fan_in`."""
        return int(pending.get(blocking=True, timeout=300))

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        nothing(1).get(blocking=True, timeout=60)


PEER = Huey
