"""Tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import environments
from benchmarks.samples import Measured

CPU = ("cpu_producer_s", "cpu_workers_s", "cpu_broker_s")
NONE = "-"


def number(value: float | None, times: float = 1.0) -> str:
    """Three digits that mean something."""
    if value is None:
        return NONE
    scaled = value * times
    if scaled >= 100:  # noqa: PLR2004 - three digits
        return f"{scaled:.0f}"
    return f"{scaled:.3g}" if scaled >= 1 else f"{scaled:.2g}"


def title(name: str) -> str:
    """What a reader calls a system."""
    return environments.candidate(name).title if name in environments.names() else name


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [head, [":--", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comparison(measured: Measured, key: str, *, base: str, cpu_case: str) -> str:
    """A row a system: medians in ms for each case, then at ``cpu_case`` the spread, the ratio and CPU seconds."""
    case = cpu_case if cpu_case in measured.cases else measured.cases[-1]
    head = [
        "system",
        *(f"N = {int(each):,}" for each in measured.cases),
        f"spread at {int(case):,}",
        f"/ {base}",
        "CPU ms a task: producer",
        "workers",
        "broker",
        "all",
        "/ " + base,
    ]
    rows = []
    for system in sorted(measured.systems, key=lambda each: measured.median(each, case, key) or float("inf")):
        cpu = [measured.median(system, case, part) for part in CPU]
        total = sum(part for part in cpu if part is not None) if any(part is not None for part in cpu) else None
        rows.append(
            [
                title(system),
                *(number(measured.median(system, each, key), 1000) for each in measured.cases),
                spread(measured.values(system, case, key)),
                number(measured.ratio(system, base, case, key)),
                *(number(part, 1000 / int(case)) for part in (*cpu, total)),
                number(_cpu_ratio(measured, system, base, case)),
            ]
        )
    return table(head, rows)


def spread(values: Sequence[float]) -> str:
    """Least to most in ms, and of how many; one value has none."""
    if len(values) < 2:  # noqa: PLR2004 - one is no spread
        return "once" if values else NONE
    return f"{number(min(values), 1000)} to {number(max(values), 1000)} of {len(values)}"


def _cpu_ratio(measured: Measured, system: str, base: str, case: str) -> float | None:
    def total(name: str) -> float | None:
        parts = [measured.median(name, case, part) for part in CPU]
        return sum(part for part in parts if part is not None) if any(part is not None for part in parts) else None

    own, other = total(system), total(base)
    return own / other if own is not None and other else None
