"""The fewest, shortest tests that do what all of them do."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

_Goals = Mapping[str, frozenset[Hashable]]


def cover(goals: _Goals, cost: Callable[[str, frozenset[str]], int]) -> tuple[str, ...]:
    """Names whose goals together are all goals (greedy; deterministic).

    Args:
        goals: Name -> what it reaches.
        cost: Of a name, when the given names are chosen already.

    Returns:
        The chosen names in the order of ``goals``.
    """
    chosen: dict[str, frozenset[Hashable]] = {}
    open_ = frozenset[Hashable]().union(*goals.values())
    while open_:
        best = max(goals, key=lambda name: (len(goals[name] & open_), -cost(name, frozenset(chosen))))
        chosen[best] = goals[best]
        open_ -= goals[best]
    for name in reversed(list(chosen)):  # a later choice may have made an earlier one needless
        others = frozenset[Hashable]().union(*(reached for other, reached in chosen.items() if other != name))
        if chosen[name] <= others:
            del chosen[name]
    return tuple(name for name in goals if name in chosen)
