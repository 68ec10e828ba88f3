"""Composes a run's tasks into one Celery canvas. Pure: nothing is published here.

    sync    testing -> generation ... -> refactoring -> collection -> staging -> production
    async   testing -> ( generation | ... | refactoring ) -> collection -> staging -> production

The asynchronous form is one flat chord: collection is its callback, and the deployments are chained to that. A
signature names its task and carries nothing else: request and needed results are read from the ledger, so that messages
stay small however many modules there are, and mean the same when they are delivered, or published, again. The ledger
counts down what each task comes after (:mod:`tta_tasks.order`), and publishes it with the last of them.
"""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tta_tasks.models import (
    AnyRequest,
    CollectionRequest,
    DeploymentRequest,
    GenerationRequest,
    Mode,
    Priority,
    RefactoringRequest,
    RunPlan,
    Target,
    TaskRecord,
    TestingRequest,
)
from tta_tasks.requests import record_of

if TYPE_CHECKING:
    from celery.canvas import Signature

#: Environments that each target deploys to, in order.
ENVIRONMENTS: dict[Target, tuple[str, ...]] = {
    Target.DEV: (),
    Target.STAGING: ("staging",),
    Target.PRODUCTION: ("staging", "production"),
}


@dataclass(frozen=True)
class Generation:
    """How tests are to be generated in a run."""

    engine: str = "auto"
    coverage_threshold: float = 80.0
    budget_s: float = 15.0
    seed: int = 0
    refactoring_engine: str = "auto"


@dataclass(frozen=True)
class Tasks:
    """The tasks of a run, stage by stage."""

    testing: TaskRecord
    #: Generation, one a module, then refactoring.
    header: tuple[TaskRecord, ...]
    collection: TaskRecord
    deployments: tuple[TaskRecord, ...]

    @property
    def all(self) -> tuple[TaskRecord, ...]:
        """In the order of the sequential canvas."""
        return (self.testing, *self.header, self.collection, *self.deployments)


def tasks_of(plan: RunPlan, generation: Generation, priority: Priority) -> Tasks:
    """The tasks that ``plan`` takes, each told which results it needs; those of the largest modules come first."""
    common: dict[str, Any] = {"run_id": plan.id, "snapshot": plan.snapshot}
    component = plan.component

    def record(request: AnyRequest) -> TaskRecord:
        return record_of(request, str(uuid.uuid4()), priority)

    testing = record(TestingRequest(**common, component=component))
    header: list[TaskRecord] = []

    def needs() -> tuple[str, ...]:
        """One after another is a need, too: the ledger must not think that a task which waits its turn was lost."""
        earlier = (header[-1].id,) if header and plan.mode is Mode.SYNC else ()
        return (testing.id, *earlier)

    for module in sorted(component.modules, key=lambda module: -module.size):
        request = GenerationRequest(
            **common,
            # Only its own module: a request must not grow with the number of modules.
            component=component.model_copy(update={"modules": (module,)}),
            needs=needs(),
            module=module,
            engine=generation.engine,
            coverage_threshold=generation.coverage_threshold,
            criteria=plan.criteria,
            budget_s=generation.budget_s,
            seed=generation.seed,
        )
        header.append(record(request))
    refactoring = RefactoringRequest(**common, component=component, needs=needs(), engine=generation.refactoring_engine)
    header.append(record(refactoring))
    collection = record(
        CollectionRequest(
            **common,
            component=component,
            needs=(testing.id, *(task.id for task in header)),
            target=plan.target,
            gates=plan.gates,
        )
    )
    deployments: list[TaskRecord] = []
    for environment in ENVIRONMENTS[plan.target]:
        after = (collection.id, *(task.id for task in deployments))
        deployment = DeploymentRequest(**common, component=component, needs=after, environment=environment)
        deployments.append(record(deployment))
    return Tasks(testing, tuple(header), collection, tuple(deployments))


def longest_first(tasks: Tasks, durations: Mapping[str, float]) -> Tasks:
    """The same tasks, those of the header first that will take longest.

    Args:
        tasks: The tasks of a run whose header's parts need nothing of each other, or they stay as they are.
        durations: Module -> seconds, the last time. Others are judged by their size, at the known ones' pace.
    """
    parts = {task.id for task in tasks.header}
    if any(parts.intersection(task.request.needs) for task in tasks.header):
        return tasks
    modules = {task.id: task.request.module for task in tasks.header if isinstance(task.request, GenerationRequest)}
    known = [module for module in modules.values() if durations.get(module.name) and module.size]
    pace = statistics.median(durations[module.name] / module.size for module in known) if known else 1.0

    def expected(task: TaskRecord) -> float:
        module = modules.get(task.id)
        return durations.get(module.name, module.size * pace) if module else 0.0

    return replace(tasks, header=tuple(sorted(tasks.header, key=expected, reverse=True)))


def compose(tasks: Tasks, mode: Mode, transport: str) -> Signature[Any]:
    """The canvas of a run."""
    # Planning needs none of it, and the local stack is not started before the plan is made.
    from celery import chain, chord, group  # noqa: PLC0415

    from tta_tasks.publishing import options_of  # noqa: PLC0415
    from tta_tasks.tasks import DECLARED  # noqa: PLC0415

    def sign(task: TaskRecord) -> Signature[Any]:
        return DECLARED[task.request.kind].si().set(**options_of(task, transport))

    if mode is Mode.SYNC:
        return chain(*map(sign, tasks.all))
    # A group is taken as it is; of a list Celery would copy each part, deeply.
    middle = chord(group([sign(task) for task in tasks.header]), sign(tasks.collection))
    return chain(sign(tasks.testing), middle, *map(sign, tasks.deployments))
