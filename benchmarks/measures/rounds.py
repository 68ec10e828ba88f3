"""Rounds in which the systems take turns, each standing still while another one is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.samples import Sample, rotated
from benchmarks.system import Failed, System


def rounds(
    arena: Arena,
    measure: str,
    cases: Sequence[int],
    options: Options,
    ask: Callable[[System, int], dict[str, Any]],
    *,
    workers: bool = True,
) -> Iterator[Sample]:
    """Ask every system for every case, as often as ``options`` say.

    Args:
        arena: Where.
        measure: Which systems take part.
        cases: Numbers of tasks.
        options: How often.
        ask: Does one measurement; what it answers are the sample's values.
        workers: Whether they are to have workers.
    """
    with arena.systems(measure, workers=workers) as systems:
        done: set[tuple[str, int]] = set()
        for number in range(options.rounds):
            for case in cases:
                for system in rotated(systems, number):
                    name = system.peer.name
                    if case > min(system.peer.most, options.most) or (name, case) in done:
                        continue
                    try:
                        with system.awake():
                            values = ask(system, case)
                    except Failed as error:
                        arena.failures.append(f"{measure}, {case}: {error}")
                        done |= {(name, each) for each in cases}
                        continue
                    if values.get("seconds", 0.0) > options.once_s:
                        done.add((name, case))
                    yield Sample(name, str(case), number, values)
