"""Rounds in which the systems take turns, each standing still while another one is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.samples import Sample, rotated
from benchmarks.system import Failed, System

#: After so many times ``once_s`` a system is not asked for the cases that follow either.
FAR_TOO_LONG = 5
#: Measures one case; what it answers are the sample's values.
Ask = Callable[[System, str], dict[str, Any]]


def rounds(
    arena: Arena, systems: Sequence[System], cases: Mapping[str, int], options: Options, ask: Ask
) -> Iterator[Sample]:
    """Ask every system for every case, as often as ``options`` say.

    Args:
        arena: Told of what fails.
        systems: As :meth:`Arena.systems` starts them.
        cases: Name -> number of tasks.
        options: How often.
        ask: Does one measurement.
    """
    done: set[tuple[str, str]] = set()
    for number in range(options.rounds):
        for case, tasks in cases.items():
            for system in rotated(systems, number):
                name = system.peer.name
                if tasks > min(system.peer.most, options.most) or (name, case) in done:
                    continue
                try:
                    with system.awake():
                        values = ask(system, case)
                except Failed as error:
                    arena.failures.append(f"{case}: {error}")
                    done |= {(name, each) for each in cases}
                    continue
                seconds = values.get("seconds", 0.0)
                if seconds > options.once_s:
                    following = list(cases)[list(cases).index(case) :]
                    done |= {
                        (name, each) for each in following[: None if seconds > FAR_TOO_LONG * options.once_s else 1]
                    }
                yield Sample(name, case, number, values)


def counts(*numbers: int) -> dict[str, int]:
    """Cases that are numbers of tasks."""
    return {str(number): number for number in numbers}
