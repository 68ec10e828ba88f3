"""The canvas: what is chained to what, and how little travels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import canvas
from tta_tasks.models import Component, Gates, Mode, Module, Priority, RunPlan, Target


def plan(modules: int, mode: Mode, target: Target = Target.PRODUCTION) -> RunPlan:
    found = tuple(Module(name=f"m{number}", path=f"m{number}.py", size=number) for number in range(modules))
    return RunPlan(
        id="r",
        created_at=1.0,
        title="t",
        spec="s.md",
        repository="r",
        component=Component(name="c", modules=found),
        target=target,
        mode=mode,
        gates=Gates(coverage=50),
        snapshot="0" * 64,
    )


def tasks_of(modules: int, mode: Mode, target: Target = Target.PRODUCTION) -> canvas.Tasks:
    return canvas.tasks_of(plan(modules, mode, target), canvas.Generation(), Priority.HIGH)


def composed(tasks: canvas.Tasks, mode: Mode, transport: str = "redis") -> Any:  # noqa: ANN401 - a chain's parts
    return canvas.compose(tasks, mode, transport)


def test_async_is_one_flat_chord() -> None:
    """Testing, then one chord whose header is all generation and the refactoring, then the deployments."""
    tasks = tasks_of(3, Mode.ASYNC)
    first, chord = composed(tasks, Mode.ASYNC).tasks
    assert first.id == tasks.testing.id
    assert chord.task == "celery.chord"
    assert [each.id for each in chord.tasks] == [task.id for task in tasks.header]
    assert all(each.task != "celery.chord" for each in chord.tasks)
    # Celery makes what follows a chord part of its callback.
    assert [each.id for each in chord.body.tasks] == [tasks.collection.id, *(task.id for task in tasks.deployments)]


def test_sync_is_one_chain() -> None:
    """The same tasks one after another, each needing the one before it."""
    tasks = tasks_of(3, Mode.SYNC)
    assert [each.id for each in composed(tasks, Mode.SYNC).tasks] == [task.id for task in tasks.all]
    for before, after in zip(tasks.all, tasks.all[1:], strict=False):
        assert before.id in after.request.needs


def test_largest_modules_come_first() -> None:
    """What takes longest begins first; refactoring closes the header."""
    labels = [task.label for task in tasks_of(4, Mode.ASYNC).header]
    assert labels == ["generate m3", "generate m2", "generate m1", "generate m0", "refactor"]


@pytest.mark.parametrize(
    ("target", "environments"), [("dev", []), ("staging", ["staging"]), ("production", ["staging", "production"])]
)
def test_target_decides_on_deployments(target: str, environments: list[str]) -> None:
    """Production follows staging; dev deploys nowhere."""
    tasks = tasks_of(1, Mode.ASYNC, Target(target))
    assert [task.stage for task in tasks.deployments] == environments


def test_a_request_does_not_grow_with_the_number_of_modules() -> None:
    """A generation's request knows its own module only, and a message carries no request at all."""
    sizes = {len(tasks_of(number, Mode.ASYNC).header[-2].request.model_dump_json()) for number in (10, 90)}
    assert len(sizes) == 1
    tasks = tasks_of(5, Mode.ASYNC)
    assert "0" * 64 not in json.dumps(composed(tasks, Mode.ASYNC), default=dict)


def test_priority_is_the_transport_s() -> None:
    """HIGH is 3 on Redis and 6 on RabbitMQ."""
    tasks = tasks_of(1, Mode.ASYNC)
    for transport, number in (("redis", 3), ("amqp", 6)):
        first = composed(tasks, Mode.ASYNC, transport).tasks[0]
        assert (first.options["priority"], first.options["queue"]) == (number, "testing")


def test_what_took_longest_the_last_time_comes_first() -> None:
    """Recorded durations decide; a module without one is judged by its size, at the others' pace."""
    tasks = tasks_of(4, Mode.ASYNC)
    ordered = canvas.longest_first(tasks, {"m1": 40.0, "m2": 20.0})
    assert [task.label for task in ordered.header] == [
        "generate m3", "generate m1", "generate m2", "generate m0", "refactor",
    ]  # fmt: skip
    assert canvas.longest_first(tasks, {}).header == tasks.header


def test_one_after_another_stays_in_its_order() -> None:
    """Where each task comes after the one before, nothing is moved."""
    tasks = tasks_of(4, Mode.SYNC)
    assert canvas.longest_first(tasks, {"m0": 100.0}) == tasks
