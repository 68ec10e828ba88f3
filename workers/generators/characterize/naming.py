"""Names of tests: what is called, and what it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from workers.generators.characterize.program.case import Case
from workers.generators.characterize.program.source import snake

_LONGEST = 80
_MAX_OPTIONS = 2
_LONGEST_WORDS = 20
_SPECIAL = {
    "''": "empty_string", "b''": "empty_bytes", "None": "none", "True": "true", "False": "false", "[]": "empty_list",
    "{}": "empty_dict", "()": "empty_tuple", "set()": "empty_set", "0": "zero", "0.0": "zero", "-1": "minus_one",
    "float('nan')": "nan", "float('inf')": "infinity", "float('-inf')": "minus_infinity",
}  # fmt: skip
_KINDS = {
    "str": "text", "int": "number", "float": "number", "bool": "boolean", "list": "list", "dict": "dict",
    "tuple": "tuple", "set": "set", "bytes": "bytes",
}  # fmt: skip


class TestNames:
    """Gives each test of a file a name of its own."""

    __test__ = False

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, cases: Sequence[Case], columns: Sequence[str]) -> str:
        """A name for the test of ``cases`` that differ in ``columns``."""
        base = "_".join(["test", *(snake(part) for part in cases[0].target.split("."))])
        names = _options(cases[0])
        options = f"_with_{'_and_'.join(names)}" if 0 < len(names) <= _MAX_OPTIONS else ""
        suffix = _single(cases[0]) if len(cases) == 1 else _group(cases, columns)
        name = re.sub(r"\W|__+", "_", f"{base}{options}_{suffix}")[:_LONGEST].strip("_")
        return self._unique(name.lower())

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        return candidate


def _options(case: Case) -> list[str]:
    return [argument.name.strip("_") for argument in case.call.arguments if argument.style == "keyword"]


def _single(case: Case) -> str:
    # Where an option makes the difference, the name tells that one.
    telling = [a for a in case.call.arguments if a.style == "keyword"] or case.call.arguments
    described = next((text for a in telling if (text := describe(a.source))), "")
    if case.raises == "SystemExit":
        return "exits" + (f"_for_{described}" if described else "")
    if case.raises:
        return f"rejects_{described}" if described else f"raises_{snake(case.raises.rpartition('.')[2])}"
    if case.history:
        return "after_" + "_and_".join(dict.fromkeys(_verb(call.template) for call in case.history))
    return _outcome(case) + (f"_for_{described}" if described else "")


def _outcome(case: Case) -> str:
    assertion = case.assertions[0]
    if assertion.how == "prints":
        return "prints_text"
    if assertion.how == "enter":
        return "is_a_context_manager"
    if assertion.subject == "{result}":
        if assertion.how == "is":
            return "returns_none" if assertion.expected == "None" else f"is_{assertion.expected.lower()}"
        return {"list": "yields_items", "head": "yields_items", "text": "has_text", "type": "returns_instance"}.get(
            assertion.how, f"returns_{_kind(assertion.expected)}"
        )
    subject = re.sub(r"len\(.*\)", "length", assertion.subject)
    name = subject.rpartition(".")[2].strip("{}")
    verb = "has" if "{result}" in assertion.subject else "sets"
    return f"{verb}_{'items' if assertion.how == 'list' else 'state' if name in {'self', 'result'} else name}"


def _group(cases: Sequence[Case], columns: Sequence[str]) -> str:
    if cases[0].raises == "SystemExit":
        return "exits"
    if cases[0].raises:
        inputs = [column for column in columns if column != "message"]
        return (
            f"rejects_invalid_{inputs[0]}"
            if len(inputs) == 1
            else f"raises_{snake(cases[0].raises.rpartition('.')[2])}"
        )
    outcomes = {_outcome(case) for case in cases}
    return (
        outcomes.pop()
        if len(outcomes) == 1
        else "is_decided"
        if cases[0].assertions[0].how == "is"
        else "returns_expected"
    )


def describe(source: str) -> str:
    """A word or two for an argument, or an empty string."""
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return _SPECIAL.get(source.replace('"', "'"), "")
    if repr(value) in _SPECIAL:
        return _SPECIAL[repr(value)]
    if isinstance(value, str):
        words = re.findall(r"[a-z0-9]+", value.lower())
        return "_".join(words) if words and value.isascii() and len(value) <= _LONGEST_WORDS else ""
    if isinstance(value, (int, float)):
        return "negative_number" if value < 0 else "number"
    return _KINDS.get(type(value).__name__, "")


def _kind(expected: str) -> str:
    try:
        return _KINDS.get(type(ast.literal_eval(expected)).__name__, "value")
    except (ValueError, SyntaxError):
        called = re.match(r"([A-Za-z_][\w.]*)\(", expected)
        return snake(called[1].rpartition(".")[2]) if called else "value"


def _verb(template: str) -> str:
    """``{self}.push({args})`` -> ``push``; operators by the sign's role."""
    method = re.match(r"(?:asyncio\.run\()?\{self\}\.(\w+)", template)
    if method:
        return method[1]
    return "delete" if template.startswith("del ") else "assign" if template.startswith("{self}[") else "operator"
