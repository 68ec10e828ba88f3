"""Fleet: what workers cost at rest, what looking after a backlog costs, and as many tasks at once as fit here.

The coefficients, and the check, of the model in :mod:`benchmarks.scale`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.report.tables import CPU, number, table
from benchmarks.samples import Measured, Sample
from benchmarks.system import System

TITLE = "A fleet at rest and at work"
SYSTEM = "tta"
REST_S = 15.0
#: Tasks that wait on a queue without workers, and until they are due to be looked after, in seconds.
BACKLOG, DUE_S = 2_000, 15.0
#: Slots, and tasks of one second.
SLOTS, TASKS, TASK_S = 100, 1_000, 1.0


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """Four cases, once each."""
    del options
    for peer in arena.candidates("fleet"):
        with arena.system(peer, workers=False) as system:
            system.ask("submission", n=1)
            yield Sample(SYSTEM, "empty", 0, system.rest(REST_S))
        with arena.systems([peer]) as systems:
            for system in systems:
                with system.awake():
                    yield Sample(SYSTEM, "idle", 0, system.rest(REST_S))
        with arena.system(peer, BENCH_QUEUE="deployment") as system:
            yield Sample(SYSTEM, "backlog", 0, _backlog(system))
        with arena.systems([peer], slots=SLOTS) as systems:
            for system in systems:
                with system.awake():
                    yield Sample(SYSTEM, "many", 0, _many(system))


def _backlog(system: System) -> dict[str, Any]:
    empty = system.memory()["broker_used"]
    system.ask("backlog", n=BACKLOG, seconds=0.0)
    kept = system.memory()["broker_used"] - empty
    system.rest(DUE_S)
    return system.rest(REST_S) | {"tasks": BACKLOG, "bytes_a_task": kept / BACKLOG}


def _many(system: System) -> dict[str, Any]:
    header = [TASK_S] * TASKS + [0.0]
    answer = system.measure("makespan", testing=0.0, header=header, deployments=[0.0, 0.0])
    return answer | {"tasks": len(header) + 4, "slots": SLOTS, "task_s": TASK_S}


def section(measured: Measured) -> str:
    """CPU a second."""
    rows = []
    names = {
        "empty": "no workers",
        "idle": "2 slots, nothing to do",
        "backlog": f"2 slots, {BACKLOG:,} tasks waiting on a queue of others",
        "many": f"{SLOTS} slots, {TASKS:,} tasks of {TASK_S:.0f} s",
    }
    for case in measured.cases:
        seconds = measured.median(SYSTEM, case, "seconds") or 1.0
        cpu = (number(measured.median(SYSTEM, case, part), 1000 / seconds) for part in CPU)
        rows.append((names[case], number(seconds), *cpu))
    return f"""\
CPU milliseconds a second; the coefficients of [the model of larger fleets](../explanation/scale.md).

{table(("case", "s", "producer", "workers", "broker"), rows)}
"""
