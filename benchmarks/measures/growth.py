"""Growth: what a task costs in larger and larger runs, and after many of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import scripted
from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.report.tables import CPU, NONE, number, table
from benchmarks.samples import Measured, Sample
from benchmarks.system import Failed, System

TITLE = "Growth"
MODULES = (10, 100, 1_000, 10_000)
#: Runs that are done and over when the last case is measured, and how many of them are handed in together.
FINISHED, TOGETHER = 1_000, 50
#: Longer than this, in seconds, no case may take.
WITHIN_S = 240.0
#: Tasks of a run that are no module's: testing, refactoring, collection.
MORE = 3
#: Added to the case in which no task is done on another's message.
APART = ", a message each"
SYSTEM = "tta"
MOST_ROUNDS = 2


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """One system throughout: what it keeps is part of the question. Another that knows no quick tasks."""
    peers = [peer for peer in arena.candidates("growth") if peer.name == SYSTEM]
    limits = {"TTA_MAX_RUNS": str(2 * FINISHED), "TTA_MAX_REQUEST_BYTES": str(4 << 20)}
    for measure, quick in ((_grown, {}), (_apart, {"TTA_QUICK_TASK_S": "0"})):
        with arena.systems(peers, **limits, **quick) as systems:
            for system in systems:
                try:
                    yield from measure(system, options)
                except Failed as error:
                    arena.failures.append(str(error))


def _grown(system: System, options: Options) -> Iterator[Sample]:
    rounds = min(options.rounds, MOST_ROUNDS)
    sizes = [modules for modules in MODULES if modules <= options.most]
    with system.awake():
        for turn in range(rounds):
            for modules in sizes[: len(sizes) - (turn > 0)]:  # the largest once
                yield _sample(system, str(modules), turn, modules)
        for _ in range(min(FINISHED, options.most) // TOGETHER):
            system.ask("growth", WITHIN_S, n=1, runs=TOGETHER)
        for turn in range(rounds):
            yield _sample(system, f"{sizes[-2]} after {FINISHED} runs", turn, sizes[-2])


def _apart(system: System, options: Options) -> Iterator[Sample]:
    modules = [modules for modules in MODULES if modules <= options.most][-2]
    with system.awake():
        for turn in range(min(options.rounds, MOST_ROUNDS)):
            yield _sample(system, f"{modules}{APART}", turn, modules)


def _sample(system: System, case: str, turn: int, modules: int) -> Sample:
    values: dict[str, Any] = system.measure("growth", WITHIN_S, n=modules, runs=1)
    return Sample(SYSTEM, case, turn, values | {"tasks": modules + MORE, **system.memory()})


def section(measured: Measured) -> str:
    """Cost a task, and memory."""
    rows = []
    for case in measured.cases:
        tasks = measured.median(SYSTEM, case, "tasks") or 1
        cpu = [measured.median(SYSTEM, case, part) or 0.0 for part in CPU]
        memory = [measured.median(SYSTEM, case, part) for part in ("rss_producer", "rss_workers", "broker_used")]
        rows.append(
            (
                case,
                number(measured.median(SYSTEM, case, "seconds"), 1000 / tasks),
                *(number(part, 1000 / tasks) for part in (*cpu, sum(cpu))),
                *(NONE if part is None else f"{part / 2**20:.0f}" for part in memory),
            )
        )
    head = (
        "modules a run",
        "ms a task",
        "CPU ms a task: producer",
        "workers",
        "broker",
        "all",
        "MiB: producer",
        "workers",
    )
    return f"""\
What a task of a run costs that has more and more modules. The tasks' work is scripted, but they pass on what real ones
do: the coverage of {scripted.LINES} lines a module, and {scripted.TESTS} accepted tests. Then the same with
{FINISHED:,} runs over and kept; and with `TTA_QUICK_TASK_S=0`, so that
[no task is done on another's message](queues.md#quick-tasks): what one costs that takes its time. (Runs of more than
some 5,000 modules need a larger `TTA_MAX_REQUEST_BYTES`.) Memory is resident at the end of the case; a page that
processes share counts for each.

{table((*head, "broker"), rows)}
"""
