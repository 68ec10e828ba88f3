"""Hands the load in, and insists: what was not accepted is handed in again under the same key."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

from orchestrator import canvas
from tests.chaos.arena import COMPONENTS
from tests.chaos.journal import note
from tests.chaos.load import RUN_MODULES, Item
from tta_tasks.client import TaskClient
from tta_tasks.errors import TransientError
from tta_tasks.models import (
    AnyRequest,
    Component,
    DeploymentRequest,
    Gates,
    GenerationRequest,
    Mode,
    Module,
    Priority,
    RunPlan,
    Target,
)

SNAPSHOT = "0" * 64


class Producer:
    """A producer that goes on whatever happens to the broker.

    Args:
        client: How it hands in.
        seed: Makes its keys its own.
    """

    def __init__(self, client: TaskClient, seed: int) -> None:
        self.client = client
        self._seed = seed
        #: Task id -> deed, of everything that was accepted.
        self.accepted: dict[str, str] = {}
        self.runs: list[str] = []
        self.refusals = 0
        self._given_up = threading.Event()

    def stop(self) -> None:
        """Hand nothing more in."""
        self._given_up.set()

    def produce(self, items: Sequence[Item], began: float) -> None:
        """Hand everything in at its time; those of one half second and one priority together."""
        numbered = [(f"{self._seed} {number}", item) for number, item in enumerate(items)]
        for (half, priority), group in groupby(numbered, lambda pair: (int(pair[1].at * 2), pair[1].priority)):
            if self._given_up.wait(max(0.0, began + half / 2 - time.monotonic())):
                return
            together = [(key, item.deed) for key, item in group]
            if singles := [pair for pair in together if pair[1] not in RUN_MODULES]:
                self._insist(partial(self._submit, singles, priority))
            for modules in (RUN_MODULES[deed] for _, deed in together if deed in RUN_MODULES):
                self._insist(partial(self._submit_run, *run_of(modules, priority), priority))

    def _insist(self, hand_in: Callable[[], None]) -> None:
        while not self._given_up.is_set():
            with contextlib.suppress(TransientError):
                hand_in()
                return
            self.refusals += 1
            self._given_up.wait(0.2)

    def _submit(self, singles: Sequence[tuple[str, str]], priority: Priority) -> None:
        requests = [request_of(deed, number) for number, (_, deed) in enumerate(singles)]
        keys = [key for key, _ in singles]
        ids = self.client.submit_many(requests, priority=priority, idempotency_keys=keys)
        self._accept(zip(ids, (deed for _, deed in singles), strict=True), priority)

    def _submit_run(self, plan: RunPlan, tasks: canvas.Tasks, priority: Priority) -> None:
        self.client.submit_run(plan, tasks.all, canvas.compose(tasks, plan.mode, self.client.transport))
        self.runs.append(plan.id)
        modules = (module.name.partition("-")[0] for module in plan.component.modules)
        deeds = ("short", *modules, "short", "short", "release", "release")
        self._accept(zip((task.id for task in tasks.all), deeds, strict=True), priority)

    def _accept(self, pairs: Iterable[tuple[str, str]], priority: Priority) -> None:
        for task_id, deed in pairs:
            self.accepted[task_id] = deed
            note("accepted", task_id, deed=deed, priority=priority)


def request_of(deed: str, number: int) -> AnyRequest:
    """The request of a task on its own."""
    module = Module(name=f"{deed}-{number}", path="m.py")
    component = Component(name=COMPONENTS[1 + number % len(COMPONENTS[1:])], modules=(module,))
    if deed == "release":
        return DeploymentRequest(snapshot=SNAPSHOT, component=component, environment="staging")
    return GenerationRequest(snapshot=SNAPSHOT, component=component, module=module)


def run_of(modules: Sequence[str], priority: Priority) -> tuple[RunPlan, canvas.Tasks]:
    """A run with a chord in it, and its tasks."""
    plan = RunPlan(
        id=f"run-{uuid.uuid4().hex[:12]}",
        created_at=time.time(),
        title="chaos",
        spec="chaos.md",
        repository="chaos",
        component=Component(name=COMPONENTS[0], modules=tuple(Module(name=name, path="m.py") for name in modules)),
        target=Target.PRODUCTION,
        mode=Mode.ASYNC,
        gates=Gates(coverage=50),
        snapshot=SNAPSHOT,
    )
    tasks = canvas.tasks_of(plan, canvas.Generation(), priority)
    return plan.model_copy(update={"task_ids": tuple(task.id for task in tasks.all)}), tasks
