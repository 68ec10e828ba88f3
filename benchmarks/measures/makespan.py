"""Makespan: the reference workload, beside the least time that its tasks can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks import floor
from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.measures.rounds import rounds
from benchmarks.report.tables import number, spread, table, title
from benchmarks.samples import Measured, Sample
from benchmarks.system import System

TITLE = "Makespan"
SLOTS = (1, 2, 5, 10)
#: Seconds, a hundredth of the reference workload's: testing, generation over ten modules, refactoring, two deployments.
STAGE_S = 0.30
MODULES_S = {
    "even": [0.30] * 10,
    # The same sum, in no order.
    "uneven": [0.10, 0.40, 0.06, 0.90, 0.25, 0.15, 0.60, 0.04, 0.30, 0.20],
}
MOST_ROUNDS = 3
#: Where the product's own sequential mode is measured, too.
SEQUENTIAL_AT = "5"


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """One number of slots after the other; systems take turns on each."""
    for slots in SLOTS:
        peers = [peer for peer in arena.candidates("makespan") if not peer.slots or slots in peer.slots]
        with arena.systems(peers, slots=slots) as systems:
            shapes = [shape for shape in MODULES_S if slots > 1 or shape == "even"]  # on one slot both are the sum
            cases = {f"{shape}, {slots}": len(MODULES_S[shape]) for shape in shapes}
            yield from rounds(arena, systems, cases, replace(options, rounds=min(options.rounds, MOST_ROUNDS)), _ask)


def _ask(system: System, case: str) -> dict[str, Any]:
    shape, _, slots = case.partition(", ")
    header = [*MODULES_S[shape], STAGE_S]
    deployments = [STAGE_S, STAGE_S]
    work: dict[str, Any] = {"testing": STAGE_S, "header": header, "deployments": deployments}
    system.ask("fanout", n=int(slots))  # all are awake
    answer = system.measure("makespan", **work)
    if system.peer.name == "tta" and slots == SEQUENTIAL_AT:
        answer["sequential_s"] = system.ask("makespan", **work, sequential=True)["seconds"]
    return answer | {"floor_s": floor.run_s(STAGE_S, header, deployments, int(slots))}


def section(measured: Measured) -> str:
    """Measured over floor."""
    rows = []
    for case in measured.cases:
        shape, _, slots = case.partition(", ")
        for system in measured.systems:
            seconds, least = measured.median(system, case, "seconds"), measured.median(system, case, "floor_s")
            if seconds is None or not least:
                continue
            values = measured.values(system, case, "seconds")
            rows.append(
                (shape, slots, title(system), number(seconds), number(least), _over(seconds, least), spread(values))
            )
            if (sequential := measured.median(system, case, "sequential_s")) is not None:
                over = _over(sequential, least)
                rows.append(
                    (shape, slots, f"{title(system)}, one after another", number(sequential), number(least), over, "")
                )
    return f"""\
The reference workload, 1 : 100: testing {STAGE_S} s, generation {sum(MODULES_S["even"]):.1f} s over
{len(MODULES_S["even"])} modules beside refactoring {STAGE_S} s, two deployments of {STAGE_S} s, and a collection that
takes none. *Even* modules are of one size; *uneven* ones take {min(MODULES_S["uneven"])} to
{max(MODULES_S["uneven"])} s, the same in sum. The floor is what no scheduler could be faster than: testing, the
greatest of the known lower bounds for the tasks side by side (longest task; sum / slots; the shortest k + 1 among the
longest k x slots + 1), and the deployments (`benchmarks/floor.py` cites them).

{table(("modules", "slots", "system", "s", "floor s", "measured / floor", "spread ms"), rows)}
"""


def _over(seconds: float, least: float) -> str:
    return f"{seconds / least:.3f}"
