"""Dagster: a job whose dynamic outputs are mapped; in one process where work is nothing, else a process a step."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["dagster==1.13.*"]
#
# [tool.bench]
# title = "Dagster"
# measures = ["fanout", "latency", "makespan"]
# most = 1000
# patience_s = 120
# slots = [5]
# ///

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.peers.protocol import Peer, Work

HOME = Path(os.environ["BENCH_FOLDER"], "home")
# Its processes import this module, too.
os.environ["DAGSTER_HOME"] = str(HOME)


@dg.op(config_schema={"items": [float]}, out=dg.DynamicOut(float))
def items(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[float]]:
    """What the header is made of."""
    for number, seconds in enumerate(context.op_config["items"]):
        yield dg.DynamicOutput(seconds, mapping_key=str(number))


@dg.op
def sleep(seconds: float) -> float:
    """Take so many seconds."""
    time.sleep(seconds)
    return seconds


@dg.op
def gather(results: list[float]) -> int:
    """Count the results."""
    return len(results)


@dg.op(config_schema={"seconds": float}, ins={"start": dg.In(dg.Nothing)})
def stage(context: dg.OpExecutionContext) -> None:
    """Take so many seconds."""
    time.sleep(context.op_config["seconds"])


@dg.op(config_schema={"seconds": float, "items": [float]}, out=dg.DynamicOut(float))
def testing(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[float]]:
    """Take so many seconds, then say what the header is made of."""
    time.sleep(context.op_config["seconds"])
    for number, seconds in enumerate(context.op_config["items"]):
        yield dg.DynamicOutput(seconds, mapping_key=str(number))


@dg.job(executor_def=dg.in_process_executor)
def fan() -> None:
    """Fan out and in."""
    gather(items().map(sleep).collect())


@dg.job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": Peer.slots}))
def stages() -> None:
    """The reference workload."""
    collected = gather(testing().map(sleep).collect())
    stage.alias("production")(start=stage.alias("staging")(start=collected))


class Dagster(Peer):
    """Its workers are the producer, or its children."""

    def connect(self) -> None:
        """See :meth:`Peer.connect`."""
        HOME.mkdir(parents=True, exist_ok=True)
        (HOME / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
        self.instance = dg.DagsterInstance.get()

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        signal.pause()

    def fan_out(self, n: int) -> int:
        """See :meth:`Peer.fan_out`: a job is one call."""
        config = {"ops": {"items": {"config": {"items": [0.0] * n}}}}
        return int(fan.execute_in_process(run_config=config, instance=self.instance).output_for_node("gather"))

    def fan_in(self, pending: int) -> int:
        """See :meth:`Peer.fan_in`."""
        return pending

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.fan_out(1)

    def run_stages(self, work: Work) -> None:
        """See :meth:`Peer.run_stages`."""
        staging, production = work.deployments
        ops: dict[str, Any] = {
            "testing": {"config": {"seconds": work.testing, "items": work.header}},
            "staging": {"config": {"seconds": staging}},
            "production": {"config": {"seconds": production}},
        }
        with dg.execute_job(dg.reconstructable(stages), self.instance, run_config={"ops": ops}) as result:
            if not result.success:
                raise SystemExit("The job failed.")


PEER = Dagster
