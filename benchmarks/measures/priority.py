"""Priority: how long an urgent task waits behind a backlog of others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.measures.rounds import rounds
from benchmarks.report.tables import number, table, title
from benchmarks.samples import Measured, Sample
from benchmarks.system import System

TITLE = "Priority"
BACKLOG, TASK_S = 2_000, 0.005
MOST_ROUNDS = 3


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """Every system begins each round without the last one's backlog."""
    tasks = min(BACKLOG, options.most)
    for turn in range(min(options.rounds, MOST_ROUNDS)):
        for peer in arena.candidates("priority"):
            with arena.systems([peer]) as systems:
                for sample in rounds(arena, systems, {str(tasks): 0}, replace(options, rounds=1), _ask):
                    yield replace(sample, round=turn)


def _ask(system: System, tasks: str) -> dict[str, Any]:
    return system.measure("priority", n=int(tasks), seconds=TASK_S)


def section(measured: Measured) -> str:
    """Milliseconds between submission and start."""
    (case,) = measured.cases
    rows = sorted(
        (
            measured.median(system, case, "seconds") or 0.0,
            title(system),
            measured.median(system, case, "worst_s"),
            sum(measured.values(system, case, "tasks")),
        )
        for system in measured.systems
    )
    cells = [(name, number(median, 1000), number(worst, 1000), number(count)) for median, name, worst, count in rows]
    return f"""\
Milliseconds from the submission of a task of the highest priority until it begins, behind {int(case):,} tasks of the
lowest that take {TASK_S * 1000:.0f} ms each; one urgent task after another while at least half of the backlog is left.
Celery's priorities are used, though a worker fetches several tasks ahead by default. RQ has none: the task is put at
the front of its queue. A raw list is first in, first out.

{table(("system", "median", "worst", "tasks"), cells)}
"""
