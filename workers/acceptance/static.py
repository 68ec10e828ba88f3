"""What can be told of a test from its text alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from workers.acceptance.source import TestFile, TestFunction, dotted

_ENVIRONMENT = re.compile(r" at 0x[0-9a-f]{6,}|/tmp/(?:tmp\w{8}\b|pytest-)")  # a pattern
_MARKERS = re.compile(
    r"(?:pytest\.|unittest\.)?(?:mark\.)?(?:skip|skipif|skipIf|skipUnless|xfail|flaky|importorskip|expectedFailure)"
    r"|self\.skipTest"
)
_EXPECTATIONS = re.compile(r"(?:^|\.)(?:raises|warns|deprecated_call|RaisesGroup|fail)$")
_ASSERTING_CALL = re.compile(r"(?:^|\.)_?assert", re.IGNORECASE)
#: Any mistake raises one of these.
_BROAD = {"Exception", "BaseException"}
_INCIDENTAL = {"TypeError", "AttributeError"}
_CATCHES_ASSERTIONS = {"Exception", "BaseException", "AssertionError"}


@dataclass(frozen=True)
class Fault:
    """Why a test is not run at all."""

    reason: str
    detail: str = ""


class StaticCheck:
    """Judges the functions of one file.

    Args:
        file: The file.
        module_source: Source of the module under test.
        places: Absolute paths that must not be in a test.
    """

    def __init__(self, file: TestFile, module_source: str, places: tuple[str, ...] = ()) -> None:
        self.file = file
        self.module_source = module_source
        self.places = places

    def fault(self, function: TestFunction) -> Fault | None:
        """What is wrong with ``function``, if anything."""
        text = ast.get_source_segment(self.file.source, function.node) or ""
        if marker := self._marker(function):
            return Fault("marker", f"`{marker}` leaves out what does not pass")
        if self._tied_to_this_host(text):
            return Fault("environment_literal", "holds an address or a path of the machine it was made on")
        claims = list(self._claims(function.node, set()))
        if not claims:
            return Fault("no_assertion", "neither asserts anything that could be false nor expects an exception")
        if all(isinstance(claim, ast.Call) and self._weak(claim) for claim in claims):
            return Fault("incidental_error", "expects an exception that any mistake would raise")
        return None

    @cached_property
    def _helpers(self) -> dict[str, ast.AST]:
        """Functions of the file that tests may call, methods by their own name."""
        functions = (
            node for node in ast.walk(self.file.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        return {node.name: node for node in functions if not node.name.startswith("test")}

    @cached_property
    def _module_markers(self) -> list[ast.expr]:
        return [
            statement.value
            for statement in self.file.tree.body
            if isinstance(statement, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets)
        ]

    def _marker(self, function: TestFunction) -> str:
        places: list[ast.AST] = [function.node, *self._module_markers]
        places += function.owner.decorator_list if function.owner else []
        nodes = (node for place in places for node in ast.walk(place))
        names = (dotted(node) for node in nodes if isinstance(node, ast.Attribute | ast.Name))
        return next((name for name in names if _MARKERS.fullmatch(name)), "")

    def _tied_to_this_host(self, text: str) -> bool:
        return bool(_ENVIRONMENT.search(text)) or any(place in text for place in self.places)

    def _claims(self, node: ast.AST, seen: set[str]) -> Iterator[ast.AST]:
        """Assertions and expectations in ``node``, and in the file's own functions that it calls."""
        for inner in _effective(node):
            if isinstance(inner, ast.Assert) and not _always_true(inner.test):
                yield inner
            elif isinstance(inner, ast.Call):
                yield from self._claims_of_call(inner, seen)

    def _claims_of_call(self, call: ast.Call, seen: set[str]) -> Iterator[ast.AST]:
        name = dotted(call.func) or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
        helper = self._helpers.get(name.rpartition(".")[2])
        if helper is not None and name not in seen:
            yield from self._claims(helper, {*seen, name})
        elif _EXPECTATIONS.search(name) or (_ASSERTING_CALL.search(name) and not _says_nothing(call)):
            yield call

    def _weak(self, call: ast.Call) -> bool:
        """Whether it expects an exception that a wrong call would raise as well, whatever the module does."""
        if not dotted(call.func).endswith("raises") or any(keyword.arg == "match" for keyword in call.keywords):
            return False
        expected = {dotted(name).rpartition(".")[2] for name in _expected(call)}
        if expected & _BROAD:
            return True
        # A module that raises it on its own account is tested by it.
        return bool(expected) and expected <= {
            name for name in _INCIDENTAL if f"raise {name}" not in self.module_source
        }


def _expected(call: ast.Call) -> list[ast.expr]:
    first = call.args[0] if call.args else None
    return list(first.elts) if isinstance(first, ast.Tuple) else [first] if first is not None else []


def _effective(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, except those whose failing assertions would be swallowed."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.Try) and child in node.body and any(map(_swallows, node.handlers)):
            continue
        yield from _effective(child)


def _swallows(handler: ast.ExceptHandler) -> bool:
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    catches = any(type_ is None or dotted(type_) in _CATCHES_ASSERTIONS for type_ in types)
    return catches and not any(isinstance(node, ast.Raise | ast.Assert) for node in ast.walk(handler))


def _constant(node: ast.expr) -> bool:
    return not any(isinstance(inner, ast.Name | ast.Call | ast.Attribute | ast.Await) for inner in ast.walk(node))


def _always_true(test: ast.expr) -> bool:
    if _constant(test):
        return True
    if isinstance(test, ast.Tuple):
        return bool(test.elts)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(isinstance(value, ast.Constant) and value.value for value in test.values)
    return isinstance(test, ast.Compare) and _compares_with_itself(test)


def _compares_with_itself(test: ast.Compare) -> bool:
    reflexive = len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is | ast.LtE | ast.GtE)
    same = ast.dump(test.left) == ast.dump(test.comparators[0])
    return reflexive and same and not any(isinstance(node, ast.Call) for node in ast.walk(test))


def _says_nothing(call: ast.Call) -> bool:
    return bool(call.args) and all(map(_constant, call.args))
