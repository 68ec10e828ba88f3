"""Prefect: a flow whose mapped tasks run in a pool of threads; its server, with SQLite, starts with it."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["prefect>=3.6,<3.9", "fastapi<0.120"]
#
# [tool.bench]
# title = "Prefect (threads)"
# measures = ["fanout", "latency", "makespan"]
# most = 1000
# patience_s = 120
# slots = [5]
# ///

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from benchmarks.peers.protocol import Peer, Work

os.environ |= {
    "PREFECT_HOME": str(Path(os.environ["BENCH_FOLDER"], "home")),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "100",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "DO_NOT_TRACK": "1",
}

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner


@task
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@task
def gather(results: list[object]) -> int:
    """Count the results."""
    return len(results)


@task
def sleep(seconds: float) -> float:
    """Take so many seconds."""
    time.sleep(seconds)
    return seconds


@flow(task_runner=ThreadPoolTaskRunner(max_workers=Peer.slots))
def fan(n: int) -> int:
    """Fan out and in."""
    return int(gather.submit(nothing.map(range(n))).result())


@flow(task_runner=ThreadPoolTaskRunner(max_workers=Peer.slots))
def stages(work: Work) -> None:
    """The reference workload."""
    sleep.submit(work.testing).wait()
    gather.submit(sleep.map(work.header)).wait()
    for seconds in work.deployments:
        sleep.submit(seconds).wait()


class Prefect(Peer):
    """Its workers are threads of the producer."""

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        signal.pause()

    def fan_out(self, n: int) -> int:
        """See :meth:`Peer.fan_out`: a flow is one call."""
        return int(fan(n))

    def fan_in(self, pending: int) -> int:
        """See :meth:`Peer.fan_in`."""
        return pending

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        fan(1)

    def run_stages(self, work: Work) -> None:
        """See :meth:`Peer.run_stages`."""
        stages(work)


PEER = Prefect
