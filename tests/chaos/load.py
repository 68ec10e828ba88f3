"""The seeded load: what is handed in, when, and how each of it must end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from tta_tasks.models import Priority, Status

#: How often each deed comes, against the others.
WEIGHTS: Final = {
    "short": 120,
    "long": 12,
    "fails": 14,
    "transient": 14,
    "exits": 8,
    "release": 20,
    "hungry": 4,
    "starved": 2,
    "forking": 3,
    "hanging": 3,
    "poison": 1,
    "stuck": 1,
}
#: Deeds that fail whenever they are done.
FAILING: Final = frozenset({"fails", "hungry", "starved", "hanging", "poison", "stuck"})
#: Modules of the runs among the load, by what such an item is called. A wide one has more than are published at once,
#: so that its last are begun on the messages of others.
RUN_MODULES: Final = {
    "run": ("short-1", "fails-1", "exits-1"),
    "wide": (
        *(f"short-{number}" for number in range(48)),
        *("exits-1", "transient-1", "fails-1", "long-1"),
        *(f"short-{number}" for number in range(48, 56)),
    ),
}
#: Tasks of a run beside its modules'.
RUN_OTHERS: Final = 5
#: From how many tasks on there are wide runs.
WIDE_FROM: Final = 400
#: From how many tasks on each deed comes.
EACH_FROM: Final = 80
PRIORITIES: Final = {Priority.CRITICAL: 1, Priority.HIGH: 2, Priority.NORMAL: 5, Priority.LOW: 4}


@dataclass(frozen=True)
class Item:
    """One thing to hand in.

    Args:
        at: Seconds after the beginning.
        deed: One of :data:`WEIGHTS`, or ``run``.
        priority: How urgent it is.
    """

    at: float
    deed: str
    priority: Priority


def load(seed: int, tasks: int, seconds: float) -> list[Item]:
    """Items that make about ``tasks`` tasks within ``seconds``, in the order of time.

    Every eighth task is in a small run, and in a load that is not small every eighth in a wide one. The same for the
    same arguments. In a load that is not small each deed comes at least once.
    """
    chance = random.Random(f"load {seed}")  # noqa: S311 - must be repeatable
    sizes = {run: len(modules) + RUN_OTHERS for run, modules in RUN_MODULES.items()}
    runs = {"run": max(1, tasks // 8 // sizes["run"]), "wide": tasks // 8 // sizes["wide"] or int(tasks >= WIDE_FROM)}
    singles = tasks - sum(runs[run] * sizes[run] for run in runs)
    always = list(WEIGHTS) if singles >= EACH_FROM else []
    deeds = [*always, *chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=singles - len(always))]
    deeds += [run for run, number in runs.items() for _ in range(number)]
    priorities = chance.choices(list(PRIORITIES), list(PRIORITIES.values()), k=len(deeds))
    items = [Item(chance.uniform(0, seconds), deed, priority) for deed, priority in zip(deeds, priorities, strict=True)]
    return sorted(items, key=lambda item: item.at)


def expected(deed: str) -> Status:
    """How a task of this deed must end, however often it is begun."""
    return Status.FAILED if deed in FAILING else Status.COMPLETED
