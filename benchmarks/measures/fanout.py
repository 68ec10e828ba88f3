"""Fan-out and fan-in: N no-op tasks, and a callback with all results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.measures.rounds import counts, rounds
from benchmarks.report.tables import comparison
from benchmarks.samples import Measured, Sample
from benchmarks.system import System

TITLE = "Fan-out and fan-in"
CASES = counts(10, 100, 1_000, 5_000)


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """From the first submission until the producer knows that the callback has run."""
    with arena.systems(arena.candidates("fanout")) as systems:
        yield from rounds(arena, systems, CASES, options, _ask)


def _ask(system: System, n: str) -> dict[str, Any]:
    system.ask("fanout", n=2)  # connections that broke while it stood still are mended now
    return system.measure("fanout", n=int(n))


def section(measured: Measured) -> str:
    """Milliseconds from submission to callback, and the ratio to the raw loop."""
    return f"""\
Milliseconds from the first submission of N no-op tasks until the producer knows that the callback with all N results
has run. The product does it as a run with its ledger, leases and reconciler on, with a testing task before the N.

{comparison(measured, "seconds", base="raw", cpu_case="1000")}
"""
