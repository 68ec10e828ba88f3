"""Which of the recorded cases are worth a reader's time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workers.generators.characterize.program.case import Case

#: Cases of one target kept although they reach nothing new: they show another outcome.
_EXTRAS = 3
#: So much of a message tells which one it is; the rest quotes the input.
_TELLING = 12


def select(cases: Sequence[Case]) -> list[Case]:
    """The plainest cases that together reach all that was reached, and a few that show other outcomes."""
    reached: set[str] = set()
    chosen, others = [], []
    for case in sorted(cases, key=cost):
        if set(case.features) <= reached:
            others.append(case)
        else:
            reached.update(case.features)
            chosen.append(case)
    shown = {(case.target, _outcome(case)) for case in chosen}
    extras: Counter[str] = Counter()
    for case in others:
        outcome = (case.target, _outcome(case))
        if outcome not in shown and extras[case.target] < _EXTRAS:
            extras[case.target] += 1
            shown.add(outcome)
            chosen.append(case)
    return chosen


def cost(case: Case) -> tuple[float, str]:
    """How hard a case is to read; firm assertions are better than vague ones."""
    length = len(case.receiver) + sum(len(call.source()) for call in (*case.history, case.call))
    strange = sum(not character.isascii() or character == "\\" for character in case.key)
    vague = any(assertion.how in {"type", "enter"} for assertion in case.assertions)
    unsaid = bool(case.raises) and not case.message
    return length + 40 * len(case.history) + 4 * strange + 60 * vague + 30 * unsaid, case.key


def _outcome(case: Case) -> str:
    if case.raises:
        return case.raises + case.message[:_TELLING]
    # What comes out after other calls is one behaviour, whatever the value.
    return "|".join(
        f"{assertion.subject}{assertion.how if case.history else assertion.expected}" for assertion in case.assertions
    )
