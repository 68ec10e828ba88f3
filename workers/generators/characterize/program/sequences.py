"""Several calls on one object: what a stack, a cache or a parser is about."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .case import Call
from .explore import Budget, Explorer, Search
from .mutate import likely
from .runner import Input
from .targets import CallableTarget

#: Calls before the last one; short ones are the ones to read.
_LENGTHS = (1, 1, 1, 2, 2, 3)
_PATIENCE = 400
#: Further examples each method may keep that show another outcome after other calls.
_EXTRAS = 2
_NO_EXTRAS = 10**6


def search_sequences(explorer: Explorer, targets: list[CallableTarget], rng: random.Random, budget: Budget) -> None:
    """Search sequences of calls on instances of each class that has methods."""
    by_class: dict[type, list[CallableTarget]] = {}
    for target in targets:
        if target.role == "method" and target.owner is not None:
            by_class.setdefault(target.owner, []).append(target)
    ready = [(cls, methods) for cls, methods in by_class.items() if explorer.receivers(cls)]
    for index, (cls, methods) in enumerate(ready):
        _search_class(explorer, cls, methods, rng, budget.part(1 / (len(ready) - index)))


def _search_class(
    explorer: Explorer, cls: type, methods: list[CallableTarget], rng: random.Random, budget: Budget
) -> None:
    changing = [target for target in methods if explorer.changes(target)]
    searches = {
        target.label: explorer.searches.get(target.label + target.template, Search(target, iter(())))
        for target in methods
    }
    for search in searches.values():
        # A call after others may end in ways that a call on a fresh object does not.
        search.extras = max(search.extras - _EXTRAS, 0) if changing else _NO_EXTRAS
    if not changing:
        # Either it is immutable, or nothing of what changes can be seen.
        changing = [target for target in methods if target.parameters and "{self}." in target.template] or methods
    proposals = _propose(explorer.receivers(cls), methods, changing, rng)
    barren = 0
    while budget.left() and barren < _PATIENCE:
        plan = next(proposals)
        search = searches[plan.target]
        # A call on a fresh object is known already: only what comes after something else is of interest.
        barren = 0 if explorer.attempt(plan, search, budget) else barren + 1


def _propose(
    receivers: list[str], methods: list[CallableTarget], changing: list[CallableTarget], rng: random.Random
) -> Iterator[Input]:
    while True:
        history = tuple(_call(rng.choice(changing), rng) for _ in range(rng.choice(_LENGTHS)))
        last = rng.choice(methods)
        yield Input(last.label, _call(last, rng), rng.choice(receivers), history)


def _call(target: CallableTarget, rng: random.Random) -> Call:
    if target.corpus and likely(rng, 0.8):
        return target.call(rng.choice(target.corpus)[1])
    return target.call(tuple(rng.choice(p.pool) if p.required else None for p in target.parameters))
