"""RQ: a process forked for every job; a job that depends on all others is the callback."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["rq==3.0.*"]
#
# [tool.bench]
# title = "RQ"
# measures = ["submission", "fanout", "latency", "priority"]
# most = 1000
# ///

from __future__ import annotations

import os
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue, get_current_job

from benchmarks.peers.protocol import Peer


def nothing(number: float) -> float:
    """Do nothing, for so many seconds."""
    time.sleep(number)
    return number


def now() -> float:
    """Tell the time."""
    return time.time()


def gather() -> int:
    """Count the results."""
    job: Any = get_current_job()
    return len([each.return_value() for each in job.fetch_dependencies()])


class Rq(Peer):
    """``slots`` workers of one pool."""

    @cached_property
    def queue(self) -> Any:  # noqa: ANN401 - RQ's own
        """The queue."""
        return Queue(connection=Redis.from_url(self.url, socket_timeout=None))

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        rq = str(Path(sys.executable).with_name("rq"))
        os.execv(rq, [rq, "worker-pool", "--url", self.url, "--num-workers", str(self.slots)])  # noqa: S606

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        for _ in range(n):
            self.queue.enqueue("benchmarks.peers.rq.nothing", 0)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - RQ's own
        """See :meth:`Peer.fan_out`."""
        jobs = [self.queue.enqueue("benchmarks.peers.rq.nothing", 0) for _ in range(n)]
        return self.queue.enqueue("benchmarks.peers.rq.gather", depends_on=jobs)

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - RQ's own
        """See :meth:`Peer.fan_in`."""
        return int(pending.latest_result(timeout=300).return_value)

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.queue.enqueue("benchmarks.peers.rq.nothing", 0).latest_result(timeout=60)

    def backlog(self, n: int, seconds: float) -> None:
        """See :meth:`Peer.backlog`."""
        for _ in range(n):
            self.queue.enqueue("benchmarks.peers.rq.nothing", seconds)

    def urgent(self) -> float:
        """See :meth:`Peer.urgent`."""
        job = self.queue.enqueue("benchmarks.peers.rq.now", at_front=True)
        return float(job.latest_result(timeout=120).return_value)


PEER = Rq
