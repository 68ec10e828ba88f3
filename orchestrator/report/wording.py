"""How numbers and codes are said to a person; the same in every form of the report."""

from __future__ import annotations

from tta_tasks.models import Usage

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


def usage(taken: Usage) -> str:
    """``0.42 USD, 31 calls of gpt, 120,300 tokens``; empty where no agent was at work."""
    if not taken.sittings:
        return ""
    tokens = taken.prompt_tokens + taken.completion_tokens
    calls = counted(taken.calls, "call")
    return f"{taken.cost_usd:.2f} USD, {calls} of {', '.join(taken.models) or 'no model'}, {tokens:,} tokens"
