"""Preparing a run: its spec read, its component found, its snapshot taken, its tasks named.

Light to import: what is wrong with a run is told before the local stack is started, so that waits for this.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from orchestrator import canvas
from orchestrator.planner import component_table, find_component, plan_gates
from orchestrator.spec import read_spec
from tta_tasks.errors import UsageError
from tta_tasks.models import Component, Mode, Priority, RunPlan, Target
from tta_tasks.settings import Settings
from tta_tasks.snapshot import Snapshot, take


@dataclass(frozen=True)
class RunOptions:
    """What a person may say of a run beside its spec."""

    repository: Path = Path()
    component: str | None = None
    #: Project folder inside the repository, for monorepos.
    root: str | None = None
    target: Target | None = None
    mode: Mode = Mode.SYNC
    engine: str = "auto"
    coverage: float | None = None
    budget_s: float = 15.0
    seed: int = 0
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True)
class Prepared:
    """A run ready to be handed in."""

    plan: RunPlan
    tasks: canvas.Tasks
    snapshot: Snapshot


def prepare(spec_file: Path, options: RunOptions, limits: Settings) -> Prepared:
    """Read the spec, find the component and take the snapshot. Touches no broker and changes nothing.

    Raises:
        SpecError: The spec cannot be read as one.
        ComponentError: The component cannot be found, or holds no Python.
        SnapshotError: The repository cannot be packed.
    """
    repository = options.repository
    if not spec_file.exists() and (repository / spec_file).is_file():
        spec_file = repository / spec_file
    spec = read_spec(spec_file)
    if not repository.is_dir():
        raise UsageError(f"The repository {repository} is not a folder.", "Name one with --repo.")
    component = _measured(repository, find_component(repository, name=options.component, spec=spec, root=options.root))
    target = options.target or spec.target or Target.STAGING
    table = component_table(repository, component)
    gates = plan_gates(table, target, options.coverage if options.coverage is not None else spec.coverage)
    snapshot = take(repository, max_bytes=limits.max_snapshot_bytes, max_files=limits.max_snapshot_files)
    plan = RunPlan(
        id=uuid.uuid4().hex[:12],
        created_at=time.time(),
        title=spec.title,
        spec=spec_file.name,
        repository=repository.absolute().resolve().name,
        commit=snapshot.commit,
        component=component,
        criteria=spec.criteria,
        target=target,
        mode=options.mode,
        gates=gates,
        snapshot=snapshot.digest,
        warnings=snapshot.warnings,
    )
    generation = canvas.Generation(
        engine=options.engine, coverage_threshold=gates.coverage, budget_s=options.budget_s, seed=options.seed
    )
    tasks = canvas.tasks_of(plan, generation, options.priority)
    plan = plan.model_copy(update={"task_ids": tuple(task.id for task in tasks.all)})
    return Prepared(plan, tasks, snapshot)


def _measured(repository: Path, component: Component) -> Component:
    """The component with the sizes of its modules."""
    project = repository / component.root
    sizes = {module: (project / module.path).stat().st_size for module in component.modules}
    modules = tuple(module.model_copy(update={"size": size}) for module, size in sizes.items())
    return component.model_copy(update={"modules": modules})
