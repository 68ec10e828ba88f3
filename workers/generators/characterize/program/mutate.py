"""Small changes to an argument, as expressions."""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from typing import Any

_MAX_TEXT = 60
_MAX_ITEMS = 6
_CHARACTERS = ("a", "1", " ", ".", "-", "_", "A", "!", "0", ",", "é", "\n", "/", ":")


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
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return self._rng.choice(
                [value + 1, -value, value * 1000, value / 1000, value * 10, value - 0.5, round(value)]
            )
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes):
            return self._rng.choice([value + b"a", value[1:], b"\xff" + value, value * 2])[:_MAX_TEXT]
        if isinstance(value, (list, tuple)):
            return type(value)(self._items(list(value)))
        if isinstance(value, dict):
            return self._mapping(dict(value))
        return value

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
        chance = self._rng.random()
        if items and (chance < 0.25 or len(items) >= _MAX_ITEMS):
            del items[self._rng.randrange(len(items))]
        elif items and chance < 0.6:
            at = self._rng.randrange(len(items))
            items[at] = self._change(items[at])
        elif items and chance < 0.8:
            items.insert(self._rng.randrange(len(items) + 1), self._rng.choice(items))
        else:
            items.append(self._rng.choice([0, 1, "a", None, 2.5, *self._numbers[:5]]))
        return items

    def _mapping(self, mapping: dict[Any, Any]) -> dict[Any, Any]:
        keys = [*mapping, *[text for text in self._texts[:20] if text.isidentifier()], "a"]
        key = self._rng.choice(keys)
        if key in mapping and self._rng.random() < 0.3:
            del mapping[key]
        elif key in mapping:
            mapping[key] = self._change(mapping[key])
        elif len(mapping) < _MAX_ITEMS:
            mapping[key] = self._rng.choice([1, "x", None, *mapping.values()])
        return mapping
