"""Celery as it comes: prefork pool, default settings, a chord."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.*"]
#
# [tool.bench]
# title = "Celery, its defaults"
# measures = ["submission", "fanout", "latency", "priority", "makespan"]
# most = 10000
# ///

from __future__ import annotations

import os
import sys
import time
from typing import Any

from celery import Celery, chain, chord

from benchmarks.peers.protocol import Peer, Work

app = Celery("peer", broker=Peer.url, backend=Peer.url)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="nothing")
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@app.task(name="gather")
def gather(results: list[object]) -> int:
    """Count the results."""
    return len(results)


@app.task(name="now")
def now() -> float:
    """Tell the time."""
    return time.time()


@app.task(name="sleep")
def sleep(seconds: float) -> None:
    """Take so many seconds."""
    time.sleep(seconds)


class Plain(Peer):
    """One worker with ``slots`` processes."""

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        argv = [*(sys.executable, "-m", "celery", "--app", "benchmarks.peers.celery", "worker")]
        os.execv(sys.executable, [*argv, "--concurrency", str(self.slots)])  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        for number in range(n):
            nothing.delay(number)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - Celery's own
        """See :meth:`Peer.fan_out`."""
        return chord(nothing.s(number) for number in range(n))(gather.s())

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - Celery's own
        """See :meth:`Peer.fan_in`."""
        return int(pending.get())

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        nothing.delay(1).get()

    def backlog(self, n: int, seconds: float) -> None:
        """See :meth:`Peer.backlog`. On Redis 9 is the lowest of Celery's priorities, and 0 the highest."""
        for _ in range(n):
            sleep.apply_async((seconds,), priority=9)

    def urgent(self) -> float:
        """See :meth:`Peer.urgent`."""
        return float(now.apply_async(priority=0).get())

    def run_stages(self, work: Work) -> None:
        """See :meth:`Peer.run_stages`."""
        header = chord([sleep.si(seconds) for seconds in work.header], gather.s())
        chain(sleep.si(work.testing), header, *(sleep.si(seconds) for seconds in work.deployments))().get()


PEER = Plain
