"""What is measured, one file each: ``run`` takes the samples, ``section`` tells of them in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from benchmarks.arena import Arena
from benchmarks.samples import Measured, Sample


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure."""

    #: How often every case is measured; the median counts.
    rounds: int = 5
    #: A case that took a system longer than this, in seconds, is not repeated with it.
    once_s: float = 6.0
    #: The largest number of tasks.
    most: int = 10_000


class Measure(Protocol):
    """One file of this package."""

    #: The heading of its section.
    TITLE: str

    def run(self, arena: Arena, options: Options) -> Iterator[Sample]:
        """Take the samples, one after another."""

    def section(self, measured: Measured) -> str:
        """What came of it, as Markdown."""
