"""What can be said about a value so that a test can hold it to that."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import inspect
import itertools
import math
import types
from typing import Any

from .case import HEAD, RESULT, SELF, Assertion
from .names import Names
from .source_repr import source_repr

_MAX_ATTRIBUTES = 4


class AssertionBuilder:
    """Turns values into assertions.

    Args:
        names: What expressions may refer to.
        environment: Texts that belong to this machine and must not be in a test.
    """

    def __init__(self, names: Names, environment: tuple[str, ...]) -> None:
        self._names = names
        self._environment = environment

    def express(self, value: Any) -> str | None:
        """:func:`~.source_repr.source_repr` with this builder's names."""
        return source_repr(value, self._names, self._environment)

    def of_result(self, value: Any, call: str) -> list[Assertion]:
        """Checks of what a call gave; empty where nothing firm can be said.

        Args:
            value: What it gave.
            call: The call's source; a value is never compared with the call that made it.
        """
        if isinstance(value, (types.CoroutineType, types.AsyncGeneratorType, types.ModuleType)):
            return []
        if hasattr(value, "__next__"):
            return self._of_iterator(value)
        simple = self._simple(value, RESULT)
        if simple is not None and simple.expected != call:
            return [simple]
        if hasattr(value, "__enter__") and hasattr(value, "__exit__") and not self._own(type(value)):
            return self._of_context(value)
        found = self.of_state(value, RESULT)
        if found:
            # What a class says of itself in words is what a reader wants to compare.
            words = [assertion for assertion in found if assertion.how == "text"] if _speaks(value) else []
            return words or found[:_MAX_ATTRIBUTES]
        name = self._names.of(type(value))
        return [Assertion("type", RESULT, name)] if name and name != "object" else []

    def of_state(self, value: Any, subject: str = SELF) -> list[Assertion]:
        """Checks of an object's public state: attributes, properties, length, items, text."""
        if not self._own(type(value)) and not self._own(getattr(type(value), "__base__", object)):
            return []
        found: list[Assertion | None] = []
        if hasattr(type(value), "__len__"):
            found.append(self._simple_of(lambda: len(value), f"len({subject})"))
        if hasattr(type(value), "__iter__") and not hasattr(value, "__next__"):
            found.append(self._items(value, subject))
        found += [
            self._simple_of(lambda name=name: getattr(value, name), f"{subject}.{name}") for name in _attributes(value)
        ]
        if any("__str__" in vars(cls) or "__repr__" in vars(cls) for cls in type(value).__mro__[:-1]):
            text = self._simple_of(lambda: str(value), subject)
            found.append(Assertion("text", subject, text.expected) if text else None)
        return [assertion for assertion in found if assertion is not None]

    def _own(self, cls: type) -> bool:
        root = self._names.module.__name__.partition(".")[0]
        return getattr(cls, "__module__", "").partition(".")[0] == root

    def _simple_of(self, read: Any, subject: str) -> Assertion | None:
        try:
            value = read()
        except Exception:  # noqa: BLE001 - a property may raise anything
            return None
        return None if callable(value) else self._simple(value, subject)

    def _simple(self, value: Any, subject: str) -> Assertion | None:
        if value is None or value is True or value is False:
            return Assertion("is", subject, repr(value))
        if isinstance(value, float) and math.isnan(value):
            return Assertion("nan", subject, "") if type(value) is float else None
        expected = self.express(value)
        if expected is None:
            return None
        if "nan" in expected and _holds_nan(value):
            return None
        return Assertion("approx" if _inexact(value) else "equal", subject, expected)

    def _items(self, value: Any, subject: str) -> Assertion | None:
        items = list(itertools.islice(iter(value), HEAD + 1))
        expected = self.express(items) if len(items) <= HEAD and not _holds_nan(items) else None
        return Assertion("list", subject, expected) if expected is not None else None

    def _of_iterator(self, value: Any) -> list[Assertion]:
        items = list(itertools.islice(value, HEAD + 1))
        how = "list" if len(items) <= HEAD else "head"
        expected = self.express(items[:HEAD])
        return [Assertion(how, RESULT, expected)] if expected is not None and not _holds_nan(items) else []

    def _of_context(self, value: Any) -> list[Assertion]:
        with value as entered:
            expected = self.express(entered)
            given = entered is not None
        if expected is None and not given:
            return []
        return [Assertion("enter", RESULT, expected or "")]


def _attributes(value: Any) -> list[str]:
    """Names of public data: what is set on the object, then its slots and properties."""
    own = list(getattr(value, "__dict__", {}))
    slots = [name for cls in type(value).__mro__ for name in _listed(getattr(cls, "__slots__", ()))]
    properties = [
        name
        for cls in type(value).__mro__
        for name, member in vars(cls).items()
        if isinstance(member, property)
        or inspect.isdatadescriptor(member)
        or type(member).__name__ == "cached_property"
    ]
    return [name for name in dict.fromkeys([*own, *slots, *properties]) if not name.startswith("_")]


def _speaks(value: Any) -> bool:
    return any("__str__" in vars(cls) for cls in type(value).__mro__[:-1] if not issubclass(BaseException, cls))


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)


def _inexact(value: Any) -> bool:
    """Whether a comparison needs a tolerance: a float that is no whole number, alone or in a flat container."""
    if type(value) is float:
        return math.isfinite(value) and value != int(value)
    items = list(value.values()) if type(value) is dict else list(value) if type(value) in {list, tuple} else []
    numeric = all(type(item) in {int, float} for item in items)
    return bool(items) and numeric and any(_inexact(item) for item in items)


def _holds_nan(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, dict):
        return any(_holds_nan(item) for item in value.values())
    return isinstance(value, (list, tuple, set, frozenset)) and any(_holds_nan(item) for item in value)
