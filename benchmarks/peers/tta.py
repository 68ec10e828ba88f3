"""The product: `tta worker`, ledger, lease and reconciler on; only the tasks' work is scripted."""

# /// script
# [tool.bench]
# title = "tta-tasks"
# measures = ["submission", "fanout", "latency", "priority", "makespan", "growth", "fleet"]
# most = 10000
# ///

from __future__ import annotations

import hashlib
import os
import sys
import time
import uuid
from functools import cached_property
from pathlib import Path

from benchmarks.peers.protocol import Peer, Work
from orchestrator import canvas, workflow
from orchestrator.prepare import Prepared
from tta_tasks.client import TaskClient
from tta_tasks.models import Component, Gates, GenerationRequest, Mode, Module, Priority, RunPlan, Target
from tta_tasks.snapshot import Snapshot

#: Environment variable: the one queue that the workers are on.
QUEUE = "BENCH_QUEUE"
SNAPSHOT = Snapshot(data=b"bench", digest=hashlib.sha256(b"bench").hexdigest(), files=0)


def plan_of(
    modules: tuple[Module, ...], *, name: str = "bench", target: Target = Target.DEV, sequential: bool = False
) -> RunPlan:
    """A run over ``modules``."""
    return RunPlan(
        id=uuid.uuid4().hex,
        created_at=time.time(),
        title="bench",
        spec="bench.md",
        repository="bench",
        component=Component(name=name, modules=modules),
        target=target,
        mode=Mode.SYNC if sequential else Mode.ASYNC,
        gates=Gates(coverage=50),
        snapshot=SNAPSHOT.digest,
    )


class Tta(Peer):
    """One worker with ``slots`` processes, on all queues."""

    @cached_property
    def client(self) -> TaskClient:
        """The producer's client."""
        return TaskClient.connect()

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        tta = str(Path(sys.executable).with_name("tta"))
        os.execv(tta, [tta, "worker", os.environ.get(QUEUE, "all"), "--slots", str(self.slots)])  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`. Durable: it returns when all is on the server's disk."""
        requests = [_request(number) for number in range(n)]
        if n == 1:
            self.client.submit(requests[0])
        else:
            self.client.submit_many(requests)

    def fan_out(self, n: int) -> str:
        """See :meth:`Peer.fan_out`: a run of ``n`` tasks side by side; its testing task and the ledger come on top."""
        return self.run(plan_of(tuple(_module(number) for number in range(n - 1))))

    def fan_in(self, pending: str) -> int:
        """See :meth:`Peer.fan_in`. The scripted callback fails unless it finds every result."""
        result = self.client.result(pending)
        if not result.ok:
            raise SystemExit(f"The callback failed: {result.error}")
        return len(self.client.status(pending).request.needs) - 1

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.client.result(self.client.submit(_request(1)))

    def backlog(self, n: int, seconds: float) -> None:
        """See :meth:`Peer.backlog`."""
        self.client.submit_many([_request(number, seconds) for number in range(n)], priority=Priority.LOW)

    def urgent(self) -> float:
        """See :meth:`Peer.urgent`."""
        task_id = self.client.submit(_request(1), priority=Priority.CRITICAL)
        self.client.result(task_id)
        return self.client.status(task_id).started_at or 0.0

    def run_stages(self, work: Work) -> None:
        """See :meth:`Peer.run_stages`: a run up to production."""
        *generation, refactoring = work.header
        if {work.testing, refactoring, *work.deployments} != {refactoring}:
            raise ValueError("What is not a module's takes the time that the component's name says.")
        modules = tuple(_module(number, seconds) for number, seconds in enumerate(generation))
        plan = plan_of(modules, name=f"bench-{refactoring}", target=Target.PRODUCTION, sequential=work.sequential)
        result = self.client.result(self.run(plan))
        if not result.ok:
            raise SystemExit(f"The run failed: {result.error}")

    def run_modules(self, n: int, runs: int) -> None:
        """See :meth:`Peer.run_modules`."""
        modules = tuple(_module(number) for number in range(n))
        last = [self.run(plan_of(modules, name="measured")) for _ in range(runs)]
        for _, result in self.client.results(last):
            if not result.ok:
                raise SystemExit(f"A run failed: {result.error}")

    def run(self, plan: RunPlan) -> str:
        """Hand a run in; answer the id of its last task."""
        tasks = canvas.tasks_of(plan, canvas.Generation(), Priority.NORMAL)
        plan = plan.model_copy(update={"task_ids": tuple(task.id for task in tasks.all)})
        workflow.submit(Prepared(plan, tasks, SNAPSHOT), self.client)
        return tasks.all[-1].id


def _module(number: int, seconds: float = 0.0) -> Module:
    return Module(name=f"m{number}-{seconds}", path=f"m{number}.py", size=int(seconds * 1000))


def _request(number: int, seconds: float = 0.0) -> GenerationRequest:
    module = _module(number, seconds)
    return GenerationRequest(
        snapshot=SNAPSHOT.digest, component=Component(name="bench", modules=(module,)), module=module
    )


PEER = Tta
