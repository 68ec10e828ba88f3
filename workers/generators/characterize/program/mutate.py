"""Small changes to an argument, as expressions."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

_MAX_TEXT = 60
_MAX_ITEMS = 6
_CHARACTERS = ("a", "1", " ", ".", "-", "_", "A", "!", "0", ",", "é", "\n", "/", ":")


def likely(rng: random.Random, share: float) -> bool:
    """``True`` in ``share`` of all calls."""
    return rng.random() < share


class Mutator:
    """Changes expressions, with the module's own constants as material.

    Args:
        rng: The only source of chance.
        texts: String constants of the module.
        numbers: Integer constants of the module.
    """

    def __init__(self, rng: random.Random, texts: Sequence[str], numbers: Sequence[int]) -> None:
        self._rng = rng
        self._texts = [*texts, *_CHARACTERS]
        self._numbers = list(numbers) or [0, 1]

    def mutate(self, source: str) -> str:
        """A slightly different expression; the same one where it is not a literal."""
        try:
            value = ast.literal_eval(source)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return source
        changed = self._change(value)
        return source if changed is value else repr(changed)

    def _change(self, value: Any) -> Any:
        change: dict[type, Callable[[Any], Any]] = {
            bool: lambda flag: not flag,
            int: self._integer,
            float: self._float,
            str: self._text,
            bytes: lambda data: self._rng.choice([data + b"a", data[1:], b"\xff" + data, data * 2])[:_MAX_TEXT],
            list: lambda items: self._items(list(items)),
            tuple: lambda items: tuple(self._items(list(items))),
            dict: lambda mapping: self._mapping(dict(mapping)),
        }
        return change.get(type(value), lambda same: same)(value)

    def _float(self, value: float) -> float:
        near = [value + 1, -value, value * 1000, value / 1000, value * 10, value - 0.5]
        return self._rng.choice([*near, round(value)] if math.isfinite(value) else near)

    def _integer(self, value: int) -> int:
        choices = [value + 1, value - 1, -value, value * 10, value // 2, value // 10, self._rng.choice(self._numbers)]
        if abs(value) < 10**30:
            choices += [value * 1000, value * 1000 + self._rng.randint(0, 999)]
        return self._rng.choice(choices)

    def _text(self, value: str) -> str:
        at = self._rng.randint(0, len(value))
        piece = self._rng.choice(self._texts)
        end = self._rng.randint(at, len(value))
        return self._rng.choice(
            [
                value[:at] + piece + value[at:],
                value[:at] + piece + value[end:],
                value[:at] + value[at + 1 :],
                value[:at] + value[end:],
                value[:at],
                piece + value,
                value + piece,
                f"{value} {piece}",
                value.upper(),
                value.lower(),
                value * 2,
                piece,
            ]
        )[:_MAX_TEXT]

    def _items(self, items: list[Any]) -> list[Any]:
        if items and (likely(self._rng, 0.25) or len(items) >= _MAX_ITEMS):
            del items[self._rng.randrange(len(items))]
        elif items and likely(self._rng, 0.5):
            at = self._rng.randrange(len(items))
            items[at] = self._change(items[at])
        elif items and likely(self._rng, 0.5):
            items.insert(self._rng.randrange(len(items) + 1), self._rng.choice(items))
        else:
            items.append(self._rng.choice([0, 1, "a", None, 2.5, *self._numbers[:5]]))
        return items

    def _mapping(self, mapping: dict[Any, Any]) -> dict[Any, Any]:
        keys = [*mapping, *[text for text in self._texts[:20] if text.isidentifier()], "a"]
        key = self._rng.choice(keys)
        if key in mapping and likely(self._rng, 0.3):
            del mapping[key]
        elif key in mapping:
            other = self._rng.choice([1, -1, "x", None, (1, 2), ("a", 1), True, *self._texts[:3]])
            mapping[key] = self._change(mapping[key]) if likely(self._rng, 0.6) else other
        elif len(mapping) < _MAX_ITEMS:
            mapping[key] = self._rng.choice([1, "x", None, *mapping.values()])
        return mapping
