"""Whether what the program says it recorded is a case that can be written as a test.

The module under test runs in the program's process, and may say anything in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from workers.component import parsing
from workers.generators.characterize.program.case import Argument, Call, Case
from workers.generators.characterize.program.source import statements

#: Longest expression or message; longest template, subject or name; most arguments, calls, assertions or imports.
_LONG, _SHORT, _MANY = 20_000, 500, 50
_HOW = {"equal", "is", "approx", "nan", "list", "head", "text", "type", "enter", "prints"}
_STYLES = {"positional", "keyword", "*", "**"}


def well_formed(case: Case) -> bool:
    """Whether ``case`` keeps to the bounds and forms that those the program records have."""
    if not (case.raises or case.assertions) or not _short_enough(case):
        return False
    known = all(each.how in _HOW for each in case.assertions) and all(
        each.style in _STYLES for each in _arguments(case)
    )
    if not known or any(_confused(call, case.receiver) for call in _calls(case)):
        return False
    try:
        for expression in _expressions(case):
            parsing.shallow(parsing.python(expression))
        return bool(case.key) and bool(statements(case))
    except (SyntaxError, ValueError):
        return False


def _short_enough(case: Case) -> bool:
    many = [case.history, case.assertions, case.imports, *(call.arguments for call in _calls(case))]
    long = [case.message, *_expressions(case)]
    short = [case.target, case.raises, *(call.template for call in _calls(case))]
    short += [each.name for each in _arguments(case)] + [each.subject for each in case.assertions]
    short += [text for pair in case.imports for text in pair]
    return (
        all(len(each) <= _MANY for each in many)
        and all(len(each) <= _LONG for each in long)
        and all(len(each) <= _SHORT for each in short)
    )


def _calls(case: Case) -> tuple[Call, ...]:
    return (*case.history, case.call)


def _arguments(case: Case) -> Iterator[Argument]:
    return (argument for call in _calls(case) for argument in call.arguments)


def _expressions(case: Case) -> Iterator[str]:
    yield case.receiver
    yield from (argument.source for argument in _arguments(case))
    yield from (assertion.expected for assertion in case.assertions)


def _confused(call: Call, receiver: str) -> bool:
    """Whether an expression holds what stands for another one in the template, which would multiply it."""
    places = {"self", "args", "result", *map(str, range(len(call.arguments)))}
    texts = (receiver, *(argument.source for argument in call.arguments))
    return any(found in places for text in texts for found in re.findall(r"\{(\w+)\}", text))
