"""Latency: from the submission of one task until its result is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.measures.rounds import counts, rounds
from benchmarks.report.tables import number, table, title
from benchmarks.samples import Measured, Sample, quantile
from benchmarks.system import System

TITLE = "Latency"
#: Tasks one after another, and most seconds of them, in a round.
TASKS, MOST_S = 200, 4.0


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """One task at a time, on idle workers."""
    with arena.systems(arena.candidates("latency")) as systems:
        yield from rounds(arena, systems, counts(1), options, _ask)


def _ask(system: System, _case: str) -> dict[str, Any]:
    system.ask("latency", n=2, most_s=MOST_S)
    answer = system.measure("latency", n=TASKS, most_s=MOST_S)
    each = answer.pop("each_s")
    p50, p99 = quantile(each, 0.5), quantile(each, 0.99)
    return answer | {"p50_s": p50, "p99_s": p99, "tasks": len(each)}


def section(measured: Measured) -> str:
    """p50 and p99, medians over the rounds."""
    rows = []
    for system in measured.systems:
        p50, p99 = measured.median(system, "1", "p50_s"), measured.median(system, "1", "p99_s")
        ratio = measured.ratio(system, "raw", "1", "p50_s")
        tasks = measured.median(system, "1", "tasks")
        rows.append((title(system), number(p50, 1000), number(p99, 1000), number(ratio), number(tasks)))
    return f"""\
Milliseconds from the submission of one no-op task to its result in the producer, one at a time on idle workers.

{table(("system", "p50", "p99", "p50 / raw", "tasks a round"), sorted(rows, key=lambda row: float(row[1])))}
"""
