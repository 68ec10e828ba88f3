"""Cases as a pytest file that reads as if somebody had written it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from workers.generators.characterize.naming import TestNames
from workers.generators.characterize.program.case import RESULT, Argument, Call, Case
from workers.generators.characterize.program.source import (
    assert_statement,
    fixtures,
    quoted,
    snake,
    statements,
    variable,
)

_DOCSTRING = '''"""Characterisation tests for ``{module}``.

They pin what the module does today, so that a change of behaviour shows. They are not a judgement that it is right:
if one of them stands for a mistake, mend the module and the test together.

Made by ``characterize``: it searched for inputs that reach different parts of the code, recorded what came of them,
and kept what held again in fresh processes.
"""
'''


@dataclass(frozen=True)
class RenderedTests:
    """A test file, and which cases each of its tests stands for."""

    source: str
    cases: Mapping[str, tuple[Case, ...]]


@dataclass(frozen=True)
class _Row:
    """A case taken apart: what varies between the cases of one test."""

    case: Case
    receiver: Call | None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Those of the receiver's constructor, then those of the call."""
        return (*(self.receiver.arguments if self.receiver else ()), *self.case.call.arguments)

    @property
    def made_like(self) -> object:
        """What receivers must have in common to be made by one expression."""
        return self.receiver and (self.receiver.template, tuple((a.name, a.style) for a in self.receiver.arguments))


def render(module: str, cases: Sequence[Case], known: Sequence[Case], order: Mapping[str, int]) -> RenderedTests:
    """Write ``cases`` as one file.

    Args:
        module: Name of the module under test.
        cases: What to write.
        known: All cases, for how receivers are made.
        order: Line of each target in the module.
    """
    makers = {case.call.source(): case.call for case in known if not case.receiver and not case.history}
    names, written, blocks = TestNames(), {}, []
    for group in _groups(sorted(cases, key=lambda case: (order.get(case.target, 10**6), case.target)), makers):
        columns = _columns(group)
        name = names.name([row.case for row in group], [column for column, _ in columns])
        body = _parametrised(group, columns, name) if len(group) > 1 and columns else _alone(group[0].case, name)
        blocks.append(body)
        written[name] = tuple(row.case for row in group)
    imports = dict(pair for case in cases for pair in case.imports)
    text = "\n\n\n".join(blocks)
    extra = {"pytest": "import pytest", "re": "import re", "math": "import math"}
    imports |= {name: line for name, line in extra.items() if f"{name}." in text}
    header = "\n".join([_DOCSTRING.format(module=module), *sorted(set(imports.values()))])
    return RenderedTests(f"{header}\n\n\n{text}\n", written)


def _groups(cases: Sequence[Case], makers: Mapping[str, Call]) -> list[list[_Row]]:
    """Cases that make one parametrised test together; the others alone."""
    groups: dict[tuple[object, ...], list[_Row]] = defaultdict(list)
    for case in cases:
        shape = tuple((argument.name, argument.style) for argument in case.call.arguments)
        groups[(case.target, case.call.template, shape, _kind(case))].append(_Row(case, makers.get(case.receiver)))
    return [_alike(rows) for rows in groups.values()]


def _alike(rows: list[_Row]) -> list[_Row]:
    """Rows whose receivers are all made by one expression, else with the receiver itself as an argument."""
    if len({row.made_like for row in rows}) == 1 and (rows[0].receiver or not rows[0].case.receiver):
        return rows
    name = snake(rows[0].case.target.partition(".")[0]) or "instance"
    return [_Row(row.case, Call("{args}", (Argument(name, row.case.receiver),))) for row in rows]


def _kind(case: Case) -> object:
    """What cases must have in common beside the shape of their call; unique where a case must stand alone."""
    if case.history or case.call.statement or fixtures(statements(case)):
        return case.key
    if case.raises:
        return (case.raises, bool(case.message))
    single = (
        len(case.assertions) == 1
        and case.assertions[0].subject == RESULT
        and case.assertions[0].how not in {"enter", "nan"}
    )
    # A comparison is asserted as such, so those that hold and those that do not are two tests.
    outcome = case.assertions[0].expected if single and _compares(case) else ""
    return (case.assertions[0].how, outcome) if single else case.key


def _compares(case: Case) -> bool:
    return any(f" {sign} " in case.call.template for sign in ("==", "!=", "<", "<=", ">", ">=", "in"))


def _columns(rows: Sequence[_Row]) -> list[tuple[str, int]]:
    """Names of the arguments that differ between rows, with their places."""
    taken = {name for row in rows for name, _ in row.case.imports} | {"message"}
    columns = []
    for place, argument in enumerate(rows[0].arguments):
        if len({row.arguments[place].source for row in rows}) > 1:
            name = variable(argument.name.strip("_") or "argument", taken)
            taken.add(name)
            columns.append((name, place))
    return columns


def _alone(case: Case, name: str) -> str:
    body = statements(case)
    return "\n    ".join([f"def {name}({', '.join(fixtures(body))}):", *body])


def _parametrised(rows: Sequence[_Row], columns: Sequence[tuple[str, int]], name: str) -> str:
    variables = [column for column, _ in columns]
    first = rows[0]
    places = {place: column for column, place in columns}
    arguments = [replace(a, source=places.get(place, a.source)) for place, a in enumerate(first.arguments)]
    split = len(first.receiver.arguments) if first.receiver else 0
    receiver = replace(first.receiver, arguments=tuple(arguments[:split])).source() if first.receiver else ""
    call = replace(first.case.call, arguments=tuple(arguments[split:])).source(receiver)
    outcomes = [_outcome(row.case) for row in rows]
    constant = len(set(outcomes)) == 1
    if first.case.raises:
        body = _raising(first.case, call, outcomes[0] if constant else "message")
    else:
        assertion = replace(first.case.assertions[0], expected=outcomes[0] if constant else "expected")
        body = [assert_statement(assertion, call)]
    if not constant and outcomes[0]:
        variables.append("message" if first.case.raises else "expected")
    table = [
        ", ".join([row.arguments[place].source for _, place in columns] + ([] if constant else [outcome]))
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    return _with_table(name, variables, table, body)


def _outcome(case: Case) -> str:
    if case.raises:
        return quoted(case.message) if case.message else ""
    return case.assertions[0].expected


def _raising(case: Case, call: str, message: str) -> list[str]:
    match = f", match=re.escape({message})" if message else ""
    return [f"with pytest.raises({case.raises}{match}):", f"    {call}"]


def _with_table(name: str, variables: Sequence[str], table: Sequence[str], body: Sequence[str]) -> str:
    single = len(variables) == 1
    names = quoted(variables[0]) if single else f"({', '.join(map(quoted, variables))})"
    rows = "\n".join(f"        {row}," if single else f"        ({row})," for row in table)
    head = f"@pytest.mark.parametrize(\n    {names},\n    [\n{rows}\n    ],\n)"
    return "\n    ".join([f"{head}\ndef {name}({', '.join(variables)}):", *body])
