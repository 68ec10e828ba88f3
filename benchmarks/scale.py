"""A model of fleets that do not fit on one machine: measured coefficients in a discrete-event simulation.

Runs arrive, and their tasks pass through a broker that does one thing at a time and workers that do one each. What the
broker does for one task, for one worker that is there, and for one task that is looked after comes from
``benchmarks.json``; so does a real run, against which the simulation is held.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final

import simpy

from benchmarks.measures.growth import APART
from benchmarks.samples import Measured, quantile

SYSTEM = "tta"
#: Seconds of generation for one module, as in the reference workload, and modules of a run.
MODULE_S, MODULES = 30.0, 10
#: Seconds that are simulated, after as many that fill the fleet.
SPAN_S: Final = 300.0
DAY_S: Final = 86_400.0
#: The broker is asked this often for a task: it is accepted, begun and ended.
VISITS = 3
#: How often the reconciler looks, and at most at how many tasks of a queue, as in ``workers/process/reconciler.py``.
RECONCILE_S, RECONCILE_BATCH = 5.0, 500


@dataclass(frozen=True)
class Coefficients:
    """What was measured. Seconds of CPU, bytes."""

    producer_task_s: float
    worker_task_s: float
    broker_task_s: float
    #: Of the broker, each second: for itself, and for one worker that waits for work.
    broker_base: float
    broker_worker: float
    #: For each look at a task that waits.
    look_worker_s: float
    look_broker_s: float
    #: Kept of a task that waits, and of one that has ended.
    waiting_bytes: float
    ended_bytes: float

    @classmethod
    def of(cls, growth: Measured, fleet: Measured) -> Coefficients:
        """From the measures of these names; those of a run count whose tasks have a message each."""

        def at(measured: Measured, case: str, key: str) -> float:
            return measured.median(SYSTEM, case, key) or 0.0

        def rate(case: str, key: str) -> float:
            return at(fleet, case, key) / at(fleet, case, "seconds")

        (case,) = (case for case in growth.cases if case.endswith(APART))
        larger = case.removesuffix(APART)
        smaller = max((each for each in growth.cases if each.isdigit() and int(each) < int(larger)), key=int)
        tasks = at(growth, case, "tasks")
        looks_s = RECONCILE_BATCH / RECONCILE_S
        return cls(
            producer_task_s=at(growth, case, "cpu_producer_s") / tasks,
            worker_task_s=at(growth, case, "cpu_workers_s") / tasks,
            broker_task_s=at(growth, case, "cpu_broker_s") / tasks,
            broker_base=rate("empty", "cpu_broker_s"),
            broker_worker=max(rate("idle", "cpu_broker_s") - rate("empty", "cpu_broker_s"), 0.0),
            look_worker_s=max(rate("backlog", "cpu_workers_s") - rate("idle", "cpu_workers_s"), 0.0) / looks_s,
            look_broker_s=max(rate("backlog", "cpu_broker_s") - rate("idle", "cpu_broker_s"), 0.0) / looks_s,
            waiting_bytes=at(fleet, "backlog", "bytes_a_task"),
            ended_bytes=(at(growth, larger, "broker_used") - at(growth, smaller, "broker_used")) / tasks,
        )

    def attention(self, workers: int) -> float:
        """The broker's share of a second that goes to itself and to workers being there."""
        return self.broker_base + workers * self.broker_worker

    @property
    def most_workers(self) -> float:
        """So many workers, all waiting, keep the broker busy."""
        return (1 - self.broker_base) / self.broker_worker if self.broker_worker else float("inf")

    @property
    def most_tasks_s(self) -> float:
        """So many tasks a second keep the broker busy when no worker waits."""
        return (1 - self.broker_base) / self.broker_task_s


@dataclass
class Fleet:
    """A simulated installation.

    Args:
        slots: Tasks at once.
        coefficients: What things cost.
        attention: The broker's share of a second that is gone before the first task.
        cores: Cores that producer, workers and broker share; ``None``: every worker has its own host.
    """

    slots: int
    coefficients: Coefficients
    attention: float = 0.0
    cores: int | None = None
    world: simpy.Environment = field(default_factory=simpy.Environment)
    #: Seconds that tasks waited at the broker.
    waits: list[float] = field(default_factory=list)
    ended: int = 0

    def __post_init__(self) -> None:
        self.broker = simpy.Resource(self.world, 1)
        self.free = simpy.Resource(self.world, self.slots)
        self.shared = simpy.Resource(self.world, self.cores) if self.cores else None

    def task(self, seconds: float) -> Generator[Any, Any, None]:
        """One task: accepted, begun by a worker that is free, done, ended."""
        yield from self._ask()
        with self.free.request() as slot:
            yield slot
            yield from self._ask()
            yield from self._compute(self.coefficients.worker_task_s)
            yield self.world.timeout(seconds)
            yield from self._ask()
        self.ended += 1

    def run(self, modules: int) -> Generator[Any, Any, None]:
        """Testing, then the modules beside refactoring, then collection and two deployments."""
        yield self.world.process(self.task(MODULE_S))
        yield simpy.AllOf(self.world, [self.world.process(self.task(MODULE_S)) for _ in range(modules + 1)])
        for _ in range(3):
            yield self.world.process(self.task(MODULE_S))

    def _ask(self) -> Generator[Any, Any, None]:
        came = self.world.now
        with self.broker.request() as turn:
            yield turn
            self.waits.append(self.world.now - came)
            # What it does for those who wait comes in between.
            seconds = self.coefficients.broker_task_s / VISITS / max(1e-6, 1 - self.attention)
            yield from self._compute(seconds)

    def _compute(self, seconds: float) -> Generator[Any, Any, None]:
        if self.shared is None:
            yield self.world.timeout(seconds)
            return
        with self.shared.request() as core:
            yield core
            yield self.world.timeout(seconds)


@dataclass(frozen=True)
class Outcome:
    """What a simulated fleet did."""

    workers: int
    slots: int
    modules_day: float
    #: Share of a second that the broker is busy, all told; above 1 it falls behind.
    broker: float
    #: Seconds that 99 of 100 visits to the broker waited less than.
    wait_p99_s: float
    #: Seconds of a run, medians; what it takes when nothing is waited for.
    run_s: float
    least_s: float


def simulated(
    coefficients: Coefficients, workers: int, slots: int, modules_day: float, *, span_s: float = SPAN_S, seed: int = 7
) -> Outcome:
    """Let runs arrive for a while, at random times.

    Args:
        coefficients: What things cost.
        workers: Worker processes. All count as waiting for work, which is more than they do.
        slots: Tasks at once, of each worker.
        modules_day: Modules that arrive a day, in runs of :data:`MODULES`.
        span_s: Seconds that count, after as many that fill the fleet.
        seed: Of the times.
    """
    chance = random.Random(seed)  # noqa: S311 - must be repeatable
    attention = coefficients.attention(workers)
    fleet = Fleet(workers * slots, coefficients, attention)
    took: list[float] = []

    def timed() -> Generator[Any, Any, None]:
        began = fleet.world.now
        yield fleet.world.process(fleet.run(MODULES))
        if began > span_s:
            took.append(fleet.world.now - began)

    def arrivals() -> Generator[Any, Any, None]:
        while True:
            yield fleet.world.timeout(chance.expovariate(modules_day / MODULES / DAY_S))
            fleet.world.process(timed())

    fleet.world.process(arrivals())
    if attention < 1:  # else no task ever gets through
        fleet.world.run(until=2 * span_s)
    tasks_s = modules_day / DAY_S * (MODULES + 5) / MODULES
    return Outcome(
        workers=workers,
        slots=slots,
        modules_day=modules_day,
        broker=attention + tasks_s * coefficients.broker_task_s,
        wait_p99_s=quantile(fleet.waits, 0.99) if fleet.waits else float("inf"),
        run_s=quantile(took, 0.5) if took else float("inf"),
        least_s=5 * MODULE_S,
    )


def check(coefficients: Coefficients, fleet: Measured) -> tuple[float, float]:
    """The largest real run and the same simulated, on the cores that all of it shared: seconds of both."""
    (sample,) = (sample for sample in fleet.samples if sample.case == "many")
    tasks, slots, task_s = (sample.values[key] for key in ("tasks", "slots", "task_s"))
    model = Fleet(int(slots), coefficients, cores=int(fleet.conditions["cores"]))
    for _ in range(int(tasks)):
        model.world.process(model.task(task_s))
    model.world.run()
    return sample.values["seconds"], model.world.now
