"""What was measured: every single value, kept as JSON, so that measures can be repeated one by one and merged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Args:
        system: Whose.
        case: Of what: a number of tasks, a number of slots, the name of a variant.
        round: In which round; systems alternate within one.
        values: Seconds, CPU seconds (``cpu_*``), bytes (``rss_*``), counts.
        load: The host's one-minute load before it.
    """

    system: str
    case: str
    round: int
    values: dict[str, float]
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))


@dataclass(frozen=True)
class Measured:
    """All samples of one measure, and under which conditions they were taken."""

    conditions: dict[str, Any]
    took_s: float
    samples: tuple[Sample, ...]
    failures: tuple[str, ...] = ()
    at: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M", time.gmtime()))

    @property
    def systems(self) -> list[str]:
        """In the order of their first samples."""
        return list(dict.fromkeys(sample.system for sample in self.samples))

    @property
    def cases(self) -> list[str]:
        """In the order of their first samples."""
        return list(dict.fromkeys(sample.case for sample in self.samples))

    def values(self, system: str, case: str, key: str) -> list[float]:
        """One value a round; empty where it was not measured."""
        return [
            sample.values[key]
            for sample in self.samples
            if (sample.system, sample.case) == (system, case) and key in sample.values
        ]

    def median(self, system: str, case: str, key: str) -> float | None:
        """The median over the rounds, or ``None``."""
        values = self.values(system, case, key)
        return median(values) if values else None

    def ratio(self, system: str, base: str, case: str, key: str) -> float | None:
        """The median of the ratios within each round, or ``None``; so that load which comes and goes cancels out."""
        of = {
            (sample.system, sample.round): sample.values[key]
            for sample in self.samples
            if sample.case == case and key in sample.values
        }
        ratios = [
            value / of[base, number]
            for (name, number), value in of.items()
            if name == system and of.get((base, number), 0.0) > 0
        ]
        return median(ratios) if ratios else None

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """The inverse of ``asdict``."""
        samples = tuple(Sample(**sample) for sample in data["samples"])
        return cls(**{**data, "samples": samples, "failures": tuple(data["failures"])})


def load(file: Path) -> dict[str, Measured]:
    """Measure -> what was measured; empty where there is no file yet."""
    if not file.exists():
        return {}
    return {name: Measured.parse(data) for name, data in json.loads(file.read_text(encoding="utf-8")).items()}


def save(file: Path, measured: dict[str, Measured]) -> None:
    """Write all, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    data = {name: _rounded(asdict(each)) for name, each in sorted(measured.items())}
    temporary.write_text(json.dumps(data, separators=(",", ":")).replace('{"system"', '\n{"system"') + "\n", "utf-8")
    temporary.replace(file)


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Six digits are more than a clock is good for."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


def rotated(items: Sequence[T], by: int) -> Iterator[T]:
    """``items``, each time beginning with another one: nobody always follows the same."""
    start = by % len(items) if items else 0
    yield from (*items[start:], *items[:start])


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which ``share`` of them are (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
