"""The model of larger fleets, against what can be computed by hand."""

from __future__ import annotations

import pytest

from benchmarks import scale
from benchmarks.scale import Coefficients, Fleet

COSTS = Coefficients(
    producer_task_s=0.001,
    worker_task_s=0.5,
    broker_task_s=0.3,
    broker_base=0.0,
    broker_worker=0.001,
    look_worker_s=0.001,
    look_broker_s=0.001,
    waiting_bytes=1000,
    ended_bytes=2000,
)


def _took(fleet: Fleet, tasks: int, seconds: float) -> float:
    for _ in range(tasks):
        fleet.world.process(fleet.task(seconds))
    fleet.world.run()
    assert fleet.ended == tasks
    return float(fleet.world.now)


def test_one_task_takes_what_its_parts_take() -> None:
    """Three visits to the broker, the worker's own, and the work."""
    assert _took(Fleet(1, COSTS), 1, 10.0) == pytest.approx(0.3 + 0.5 + 10.0)


def test_the_broker_bounds_a_fleet_however_large() -> None:
    """No more tasks end than the broker has time for."""
    assert _took(Fleet(10_000, COSTS), 1000, 0.0) == pytest.approx(1000 * COSTS.broker_task_s, rel=0.05)


def test_slots_bound_a_fleet() -> None:
    """Work is done in as many waves as slots allow."""
    free = Coefficients(0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert _took(Fleet(10, free), 95, 2.0) == pytest.approx(20.0)


def test_shared_cores_bound_what_runs_on_them() -> None:
    """On one core the overheads of broker and workers follow each other."""
    assert _took(Fleet(100, COSTS, cores=1), 20, 0.0) == pytest.approx(20 * (0.3 + 0.5))


def test_a_broker_that_only_serves_waiting_workers_falls_behind() -> None:
    """With as many workers as keep it busy, no task gets through, and the outcome says so."""
    assert COSTS.most_workers == pytest.approx(1000)
    assert scale.simulated(COSTS, 1001, 1, 1000.0, span_s=1.0).broker > 1
