"""How numbers and codes are said to a person; the same in every form of the report."""

from __future__ import annotations

from tta_tasks.models import Decision, Status, TaskRecord, Usage
from tta_tasks.promotion import moment

_MINUTE = 60
_HOUR = 3600

#: What a rejected test is, for the codes whose own name does not say it.
REASONS = {
    "fails": "failing",
    "no_assertion": "without an assertion",
    "adds_nothing": "adding nothing",
    "leaks": "leaving something behind",
}


def seconds(duration: float | None) -> str:
    """``0.42 s``, ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``; a dash for none."""
    if duration is None:
        return "\u2013"
    duration = max(duration, 0.0)
    if duration < 1:
        return f"{duration:.2f} s"
    if round(duration, 1) < _MINUTE:
        return f"{duration:.1f} s"
    whole = round(duration)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def percent(value: float | None) -> str:
    """``91.7 %``; a dash for none. What is not all is never a hundred."""
    if value is None:
        return "\u2013"
    rounded = min(round(value, 1), 99.9) if value < 100 else value  # noqa: PLR2004 - percent
    return f"{rounded:.1f} %".replace(".0 %", " %")


def change(before: float | None, after: float | None) -> str:
    """``38.4 % → 91.7 %``; one figure where there is but one."""
    figures = dict.fromkeys(percent(value) for value in (before, after) if value is not None)
    return " \u2192 ".join(figures) or percent(None)


def reason(code: str) -> str:
    """A rejection's code in words, where we know it."""
    return REASONS.get(code, code.replace("_", " "))


def counted(number: int, noun: str) -> str:
    """``1 test``, ``2 tests``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def parked(task: TaskRecord) -> str:
    """``staging soaks until 14:03:20, then it needs approval``: what a parked task waits for; empty for others."""
    terms, decision = task.promotion, task.decision
    if task.status is not Status.PARKED or terms is None:
        return ""
    if terms.waits_for == "approval":
        return f"waits for approval until {moment(terms.expires_at or terms.due)}"
    words = f"{terms.after} soaks until {moment(terms.soaked_at)}"
    if decision is not None:
        return f"{words}, {decided(decision)}"
    return f"{words}, then it needs approval" if terms.approval else words


def decided(decision: Decision) -> str:
    """``approved by ada@host on 2026-11-22 14:03:20: looks good``."""
    return f"{decision.outcome} {said(decision)}"


def said(decision: Decision) -> str:
    """``by ada@host on 2026-11-22 14:03:20: looks good``."""
    user = f" (Redis user {decision.user})" if decision.user else ""
    words = f"by {decision.by}{user} on {moment(decision.at)}"
    return f"{words}: {decision.reason}" if decision.reason else words


def how_to_decide(task: TaskRecord) -> str:
    """The commands that decide on a parked task; empty where nobody need."""
    if task.status is not Status.PARKED or task.promotion is None or task.decision is not None:
        return ""
    reject = f"`tta reject {task.run_id}`"
    return f"`tta approve {task.run_id}` or {reject}" if task.promotion.approval else f"{reject} stops it"


def usage(taken: Usage) -> str:
    """``0.42 USD, 31 calls of gpt, 120,300 tokens``; empty where no agent was at work."""
    if not taken.attempts:
        return ""
    tokens = taken.prompt_tokens + taken.completion_tokens
    calls = counted(taken.calls, "call")
    return f"{taken.cost_usd:.2f} USD, {calls} of {', '.join(taken.models) or 'no model'}, {tokens:,} tokens"
