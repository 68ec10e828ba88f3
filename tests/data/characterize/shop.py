"""A small module of many kinds of things, to be characterised."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Price:
    amount: Decimal
    currency: str = "EUR"


class OutOfStock(Exception):
    """Raised when nothing is left."""


class Stack:
    """A stack of limited size.

    >>> Stack(2).push("a")
    1
    """

    def __init__(self, limit: int = 3) -> None:
        if limit < 1:
            raise ValueError("limit must be positive")
        self.limit = limit
        self._items: list[object] = []

    def push(self, item: object) -> int:
        if len(self._items) >= self.limit:
            raise OutOfStock(f"no room for more than {self.limit}")
        self._items.append(item)
        return len(self._items)

    def pop(self) -> object:
        if not self._items:
            raise OutOfStock("the stack is empty")
        return self._items.pop()

    @property
    def full(self) -> bool:
        return len(self._items) == self.limit

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items


def price_of(colour: Colour, amount: int) -> Price:
    if amount <= 0:
        raise ValueError(f"amount must be positive, not {amount}")
    base = Decimal(3) if colour is Colour.RED else Decimal("2.5")
    return Price(base * amount)


def countdown(start: int) -> Iterator[int]:
    while start > 0:
        yield start
        start -= 1


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    yield name.upper()


def sort_in_place(items: list[int]) -> None:
    items.sort()


def greet(name: str) -> None:
    print(f"Hello, {name}!")


def mean(numbers: list[float]) -> float:
    if not numbers:
        raise ValueError("no numbers")
    return sum(numbers) / len(numbers)


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def today() -> date:
    return date.today()


def stamp() -> float:
    return time.time()


def lucky() -> bool:
    return random.random() < 0.5


def command_line() -> int:
    return len(sys.argv)


def order(names: set[str]) -> list[str]:
    return list(names)


def _private(x: int) -> int:
    return x
