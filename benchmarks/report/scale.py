"""The page on larger fleets: coefficients, simulation, check."""

from __future__ import annotations

from benchmarks.report.tables import number, table
from benchmarks.samples import Measured
from benchmarks.scale import (
    MODULE_S,
    MODULES,
    RECONCILE_BATCH,
    RECONCILE_S,
    SPAN_S,
    Coefficients,
    Outcome,
    check,
    simulated,
)

#: Workers, slots of each, and modules a day.
FLEETS = (
    (100, 1, 100_000),
    (1_000, 1, 1_000_000),
    (2_000, 1, 1_000_000),
    (10_000, 1, 1_000_000),
    (1_250, 8, 1_000_000),
    (100, 100, 10_000_000),
)
DAY_S = 86_400
RETENTION_DAYS, MOST_RUNS, MOST_WAITING = 7, 1_000, 20_000


def render(growth: Measured, fleet: Measured) -> str:
    """The page."""
    costs = Coefficients.of(growth, fleet)
    real_s, model_s = check(costs, fleet)
    (many,) = (sample for sample in fleet.samples if sample.case == "many")
    outcomes = [simulated(costs, *fleet_of) for fleet_of in FLEETS]
    return f"""\
# Larger fleets

What 100 to 10,000 workers and up to a million modules a day ask of Redis, the ledger, the reconciler and a producer. No
machine here holds that, so it is computed: what one task, one waiting worker and one look of the reconciler cost was
[measured](../reference/benchmarks.md), and a discrete-event simulation (`benchmarks/scale.py`) puts it together. `make
bench` writes this page.

## What things cost

{_costs(costs)}

## Simulated

Runs of {MODULES} modules arrive at random times; every task takes {MODULE_S:.0f} s, as in the reference workload, on
workers with hosts of their own. {SPAN_S:.0f} s are simulated after as many that fill the fleet. Redis does one thing at
a time; all workers count as waiting, which is more than they do.

{_fleets(outcomes)}

## Where it ends, and what to do then

{_limits(costs)}

## How far the model can be trusted

A real run, the largest that fits on the machine that measured: {many.values["tasks"]:.0f} tasks of
{many.values["task_s"]:.0f} s on {many.values["slots"]:.0f} slots, producer, broker and workers all on
{fleet.conditions["cores"]} cores. It took {real_s:.2f} s; the model, with those cores shared, says {model_s:.2f} s
({100 * (model_s / real_s - 1):+.0f} %). Other work ran on the machine while it was measured when its load was above the
number of cores (it was {many.load:.1f}). What the model leaves out: the network, artifacts (a snapshot and patches a
task, unless they are [kept elsewhere](../reference/settings.md)), results larger than the measured ones, and faults.
"""


def _costs(costs: Coefficients) -> str:
    rows = (
        ("producer, a task handed in", f"{costs.producer_task_s * 1e3:.2f} ms"),
        ("worker, a task besides its work", f"{costs.worker_task_s * 1e3:.2f} ms"),
        ("Redis, a task from submission to end", f"{costs.broker_task_s * 1e3:.2f} ms"),
        ("Redis, a worker that waits", f"{costs.broker_worker * 1e3:.2f} ms a second"),
        ("Redis by itself", f"{costs.broker_base * 1e3:.2f} ms a second"),
        ("reconciler, a look at a task that waits", f"{costs.look_worker_s * 1e3:.2f} ms"),
        ("Redis, such a look", f"{costs.look_broker_s * 1e3:.3f} ms"),
        ("memory of a task that waits", f"{costs.waiting_bytes:,.0f} bytes"),
        ("memory of a task that has ended", f"{costs.ended_bytes:,.0f} bytes"),
    )
    return table(("CPU of, or", "cost"), rows)


def _fleets(outcomes: list[Outcome]) -> str:
    rows = [
        (
            f"{each.workers:,} x {each.slots}",
            f"{each.modules_day:,.0f}",
            f"{100 * each.broker:.0f} %",
            number(each.wait_p99_s, 1000) if each.broker < 1 else "falls behind",
            f"{each.run_s / each.least_s:.3f}" if each.broker < 1 else "-",
        )
        for each in outcomes
    ]
    return table(("workers x slots", "modules a day", "Redis busy", "p99 wait at Redis, ms", "run / least"), rows)


def _limits(costs: Coefficients) -> str:
    tasks_day = 1_000_000 * (MODULES + 5) / MODULES
    kept = tasks_day * RETENTION_DAYS * costs.ended_bytes / 2**30
    found_s = MOST_WAITING / RECONCILE_BATCH * RECONCILE_S
    looks = RECONCILE_BATCH / RECONCILE_S
    runs_minutes = MOST_RUNS / (1_000_000 / MODULES) * DAY_S / 60
    return f"""\
- **Redis, by workers that wait**: {costs.most_workers:,.0f} worker processes keep one Redis busy before the first task,
  as each asks anew every second. A worker with many slots is one that waits: use `--slots`. Beyond that, one Redis a
  group of queues or of tenants: an installation each.
- **Redis, by tasks**: {costs.most_tasks_s:,.0f} tasks a second, {costs.most_tasks_s * DAY_S / 1e6:,.0f} million a day.
  A million modules a day are {tasks_day / DAY_S:.0f} a second. Tasks that take seconds are far from it.
- **Reconciler**: one worker looks at {RECONCILE_BATCH} tasks of a queue every {RECONCILE_S:.0f} s, {looks:.0f} a second
  for {100 * looks * costs.look_worker_s:.0f} % of a core. What waits is looked at again and again, so behind a backlog
  of {MOST_WAITING:,} (the default of `TTA_MAX_QUEUE_TASKS`) a lost task is found after up to {found_s:.0f} s instead of
  seconds. It is found; nothing else depends on it. Shorter queues, or a shorter `TTA_RECONCILE_INTERVAL_S`, find it
  sooner.
- **Ledger**: a million modules a day kept for {RETENTION_DAYS} days would be {kept:,.0f} GiB. The default of
  `TTA_MAX_RUNS` ({MOST_RUNS:,}) bounds it first: at that rate it remembers {runs_minutes:.0f} minutes. Raise it
  together with the memory of Redis, and lower `TTA_RETENTION_S`.
- **Producer**: {1 / costs.producer_task_s:,.0f} tasks a second of one core; more producers are independent of each
  other.
- **Queue limit**: with all workers gone, a million modules a day fill a queue of {MOST_WAITING:,} in
  {MOST_WAITING / (1_000_000 / DAY_S) / 60:.0f} minutes; then submissions are refused, and nothing accepted is lost."""
