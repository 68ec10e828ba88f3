"""Makes an input plainer while it still does what it is kept for."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace

from .case import Argument, Call
from .runner import Input

#: Runs spent on one input.
_TRIES = 30
_SHORT_TEXT = 6
_BIG_NUMBER = 1000


def shrink(plan: Input, still: Callable[[Input], bool], keep: frozenset[str]) -> Input:
    """The plainest input found for which ``still`` holds.

    Args:
        plan: An input for which it holds.
        still: Runs an input.
        keep: Expressions that are plain enough as they are.
    """
    tries = 0
    progress = True
    while progress and tries < _TRIES:
        progress = False
        for plainer in _plainer(plan, keep):
            tries += 1
            if still(plainer):
                plan, progress = plainer, True
                break
            if tries >= _TRIES:
                break
    return plan


def _plainer(plan: Input, keep: frozenset[str]) -> Iterator[Input]:
    for index in range(len(plan.history)):
        yield replace(plan, history=plan.history[:index] + plan.history[index + 1 :])
    arguments = plan.call.arguments
    for index, argument in enumerate(arguments):
        if argument.style != "positional" or (index and index == len(arguments) - 1):
            yield replace(plan, call=_with(plan.call, (*arguments[:index], *arguments[index + 1 :])))
    for index, argument in enumerate(arguments):
        for source in _simpler(argument.source) if argument.source not in keep else ():
            changed = Argument(argument.name, source, argument.style)
            yield replace(plan, call=_with(plan.call, (*arguments[:index], changed, *arguments[index + 1 :])))


def _with(call: Call, arguments: tuple[Argument, ...]) -> Call:
    return Call(call.template, arguments, call.statement)


def _simpler(source: str) -> Iterator[str]:
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return
    if isinstance(value, str) and len(value) > _SHORT_TEXT:
        half = len(value) // 2
        yield from map(repr, (value[:half], value[half:], value[1:], value[:-1]))
    elif isinstance(value, int) and abs(value) > _BIG_NUMBER:
        yield from map(repr, (10, 100, value // 1000))
    elif isinstance(value, (list, tuple)) and len(value) > 1:
        yield from (repr(type(value)([*value[:index], *value[index + 1 :]])) for index in range(len(value)))
    elif isinstance(value, dict) and len(value) > 1:
        yield from (repr({k: v for k, v in value.items() if k != key}) for key in value)
