"""The report: one page and its figure, from all that was measured, whenever it was."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from benchmarks.measures import Measure
from benchmarks.samples import Measured

#: In the order of the report.
ORDER = ("submission", "fanout", "latency", "makespan", "priority", "growth", "fleet", "real")


def measure_of(name: str) -> Measure:
    """The module of a measure."""
    return cast("Measure", import_module(f"benchmarks.measures.{name}"))


def render(measured: dict[str, Measured], figure: str) -> str:
    """The page.

    Args:
        measured: What was measured.
        figure: Where its figure is, relative to the page.
    """
    parts = [_INTRODUCTION, f"![What each system costs beside the raw loop]({figure})\n"]
    for name in ORDER:
        if name in measured:
            measure = measure_of(name)
            parts.append(f"## {measure.TITLE}\n\n{measure.section(measured[name])}\n{_conditions(measured[name])}")
    return "\n".join(parts)


_INTRODUCTION = """\
# Benchmarks

How fast `tta-tasks` is beside its peers, and beside what the work itself allows. `make bench` measures all of this and
writes this page and, with every single value, [benchmarks.json](benchmarks.json);
`make bench BENCH="--only fanout --rounds 3"` measures one part again and leaves the others.

How it is measured:

- Every system has a producer and workers in processes of their own, in an environment of its own, and the same number
  of slots. All use one embedded Valkey, each a database of its own, with the append-only file on
  (`appendfsync everysec`).
- Systems take turns within a round; the others stand still meanwhile (`SIGSTOP`). A figure is the median over the
  rounds, a ratio the median of the ratios within each round, so that load which comes and goes on the machine cancels
  out. What takes a system more than some seconds is measured once.
- CPU seconds are those of the process trees, from the kernel, and of the server (`INFO cpu`).
- Nobody is tuned: every peer runs as its documentation shows it first, with as many processes as there are slots.
"""


def _conditions(measured: Measured) -> str:
    facts = measured.conditions
    loads = [sample.load for sample in measured.samples] or [0.0]
    text = (
        f"Measured {measured.at} UTC in {measured.took_s:.0f} s at `{facts['commit']}`, Python {facts['python']}, "
        f"{facts['cores']} cores ({facts['cpu']}), {facts['slots']} slots; load {min(loads):.1f} to {max(loads):.1f}.\n"
    )
    return text + "".join(f"\nNot measured: {failure}\n" for failure in measured.failures)
