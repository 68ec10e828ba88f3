"""Several calls on one object: what a stack, a cache or a parser is about."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .case import Call
from .explore import Budget, Explorer, Search
from .runner import Input
from .targets import Target

_LONGEST = 4
_PATIENCE = 250


def search_sequences(explorer: Explorer, targets: list[Target], rng: random.Random, budget: Budget) -> None:
    """Search sequences of calls on instances of each class that has methods."""
    by_class: dict[type, list[Target]] = {}
    for target in targets:
        if target.role == "method" and target.owner is not None:
            by_class.setdefault(target.owner, []).append(target)
    ready = [(cls, methods) for cls, methods in by_class.items() if explorer.receivers(cls)]
    for index, (cls, methods) in enumerate(ready):
        _search_class(explorer, cls, methods, rng, budget.part(1 / (len(ready) - index)))


def _search_class(explorer: Explorer, cls: type, methods: list[Target], rng: random.Random, budget: Budget) -> None:
    searches = {target.label: Search(target, iter(())) for target in methods}
    changing = [target for target in methods if _may_change(target)] or methods
    proposals = _propose(explorer.receivers(cls), methods, changing, rng)
    barren = 0
    while budget.left() and barren < _PATIENCE:
        plan = next(proposals)
        search = searches[plan.target]
        # A call on a fresh object is known already: only what comes after something else is of interest.
        barren = 0 if explorer.attempt(plan, search, budget) else barren + 1


def _may_change(target: Target) -> bool:
    reads = ("len(", "str(", "repr(", "hash(", "iter(", "==", "copy.", "pickle.")
    return bool(target.parameters or target.template.endswith("()")) and not any(
        mark in target.template for mark in reads
    )


def _propose(
    receivers: list[str], methods: list[Target], changing: list[Target], rng: random.Random
) -> Iterator[Input]:
    while True:
        history = tuple(_call(rng.choice(changing), rng) for _ in range(rng.randint(1, _LONGEST - 1)))
        last = rng.choice(methods)
        yield Input(last.label, _call(last, rng), rng.choice(receivers), history)


def _call(target: Target, rng: random.Random) -> Call:
    if target.corpus and rng.random() < 0.8:
        return target.call(rng.choice(target.corpus)[1])
    return target.call(tuple(rng.choice(p.pool) if p.required else None for p in target.parameters))
