"""A value as an expression that evaluates back to an equal value, or ``None`` where there is none."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import re
import types
import uuid
from typing import Any

from .names import Names

#: Longest expression worth reading in a test.
MAX_LENGTH = 300
_MAX_ITEMS = 40
_MAX_DEPTH = 6
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_REPR_TYPES: dict[type, str] = {
    decimal.Decimal: "Decimal",
    fractions.Fraction: "Fraction",
    uuid.UUID: "UUID",
    dt.date: "datetime",
    dt.time: "datetime",
    dt.datetime: "datetime",
    dt.timedelta: "datetime",
    dt.timezone: "datetime",
    collections.OrderedDict: "OrderedDict",
    collections.Counter: "Counter",
    collections.deque: "deque",
}


class Unreadable(Exception):
    """The value has no expression."""


def source_repr(value: Any, names: Names, environment: tuple[str, ...] = ()) -> str | None:
    """An expression for ``value``.

    Args:
        value: Anything.
        names: What the expression may refer to.
        environment: Texts that belong to this machine (folders, host name); a value that holds one has no expression.
    """
    try:
        source = _express(value, names, 0)
    except (Unreadable, RecursionError):
        return None
    except Exception:  # noqa: BLE001 - a hostile __repr__ or __eq__ may raise anything
        return None
    if len(source) > MAX_LENGTH or _ADDRESS.search(source) or any(text in source for text in environment):
        return None
    return source


def _express(value: Any, names: Names, depth: int) -> str:
    kind = type(value)
    if depth > _MAX_DEPTH:
        raise Unreadable
    if value is None or kind in (bool, int, float, str, bytes):
        return _scalar(value)
    if kind in (list, tuple, dict, set, frozenset):
        return _container(value, names, depth)
    if isinstance(value, enum.Enum):
        return _named(kind, names) + f".{value.name}" if value.name in kind.__members__ else _fail()
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return _named(value, names)
    return _pattern(value, names) if kind is re.Pattern else _from_repr(value, names)


def _fail() -> str:
    raise Unreadable


def _scalar(value: Any) -> str:
    if type(value) is float and not math.isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    return text if len(text) <= MAX_LENGTH else _fail()


def _named(thing: Any, names: Names) -> str:
    return names.of(thing) or _fail()


def _container(value: Any, names: Names, depth: int) -> str:
    if len(value) > _MAX_ITEMS:
        raise Unreadable
    if isinstance(value, dict):
        pairs = [f"{_express(k, names, depth + 1)}: {_express(v, names, depth + 1)}" for k, v in value.items()]
        return "{" + ", ".join(pairs) + "}"
    items = [_express(item, names, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        inner = "{" + ", ".join(sorted(items, key=lambda text: (len(text), text))) + "}" if items else ""
        return (inner or "set()") if isinstance(value, set) else f"frozenset({inner})"
    joined = ", ".join(items)
    if isinstance(value, list):
        return f"[{joined}]"
    return f"({joined},)" if len(items) == 1 else f"({joined})"


def _pattern(value: re.Pattern[Any], names: Names) -> str:
    flags = value.flags & ~re.UNICODE.value
    if flags or not names.standard("re"):
        raise Unreadable
    return f"re.compile({value.pattern!r})"


def _from_repr(value: Any, names: Names) -> str:
    """Trust a ``repr`` that evaluates back to an equal value of the same type."""
    if isinstance(value, pathlib.PurePath):
        return f"Path({str(value)!r})" if names.standard("Path") else _fail()
    standard = _REPR_TYPES.get(type(value))
    if standard is not None and not names.standard(standard):
        raise Unreadable
    if standard is None and type(value).__module__ not in ("builtins", "itertools", "functools"):
        _named(type(value), names)
    text = repr(value)
    if len(text) > MAX_LENGTH or text.startswith("<"):
        raise Unreadable
    again = eval(text, dict(names.namespace))  # noqa: S307 - inside the sandbox, under the guard
    if type(again) is not type(value) or not bool(again == value) or not bool(value == again):
        raise Unreadable
    return text
