"""Submission: how long a producer takes until N requests are accepted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.measures.rounds import counts, rounds
from benchmarks.report.tables import comparison
from benchmarks.samples import Measured, Sample
from benchmarks.system import System

TITLE = "Submission"
CASES = counts(1, 100, 1_000, 10_000)


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """Without workers: what they would take would be the producer's loss."""
    with arena.systems(arena.candidates("submission"), workers=False) as systems:
        yield from rounds(arena, systems, CASES, options, _ask)


def _ask(system: System, n: str) -> dict[str, Any]:
    try:
        return system.measure("submission", n=int(n))
    finally:
        system.clear()


def section(measured: Measured) -> str:
    """Milliseconds until accepted, and the ratio to Celery's ``delay()`` in a loop."""
    return f"""\
Milliseconds until N no-op requests are accepted, by each system's usual call in a loop; no workers run. For the product
accepted means written to the ledger, published, and on the server's disk by its own word (`WAITAOF`; what that is worth
with `everysec` is told in [Nothing lost, nothing twice](../explanation/nothing-lost-nothing-twice.md)); nobody else
waits for that.

{comparison(measured, "seconds", base="celery", cpu_case="1000")}
"""
