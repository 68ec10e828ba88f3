"""Celery as it comes: prefork pool, default settings, a chord."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.*"]
#
# [tool.bench]
# title = "Celery, its defaults"
# measures = ["submission", "fanout", "latency"]
# most = 10000
# ///

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery, chord

from benchmarks.peers.protocol import Peer, main

app = Celery("peer", broker=Peer.url, backend=Peer.url)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="nothing")
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@app.task(name="gather")
def gather(results: list[int]) -> int:
    """Count the results."""
    return len(results)


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


if __name__ == "__main__":
    main(Plain())
