"""Geometry of the timeline: lanes of bars, in percent of its width, so that it fits any screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.wording import seconds
from orchestrator.sanitize import sanitize
from orchestrator.timeline import Span
from tta_tasks.models import Stage

#: A stage of more tasks than this shows a lane a slot instead of a lane a task.
_MOST_LANES = 16
_MOST_TICKS = 5
#: A wait shorter than this is only the message's way.
_SHOWN_WAIT_S = 0.05
#: Bars are at least this wide, to be seen at all.
_THINNEST = 0.4


@dataclass(frozen=True)
class Bar:
    """A task. Positions and widths are percentages."""

    wait_x: float
    wait_width: float
    x: float
    width: float
    #: CSS classes.
    style: str
    title: str


@dataclass(frozen=True)
class Lane:
    """One row of the timeline."""

    label: str
    detail: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Tick:
    """A mark on the axis."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """The timeline."""

    #: Stage -> its lanes.
    groups: tuple[tuple[str, tuple[Lane, ...]], ...]
    ticks: tuple[Tick, ...]


def draw(spans: Sequence[Span]) -> Chart:
    """Lay ``spans`` out, stage by stage."""
    end = max((span.finished_s for span in spans), default=0.0) or 1.0
    groups: list[tuple[str, tuple[Lane, ...]]] = []
    for stage in Stage:
        members = [span for span in spans if span.stage is stage]
        if not members:
            continue
        many = len(members) > _MOST_LANES
        groups.append((stage.value, _slots(members, end) if many else tuple(_lane(span, end) for span in members)))
    return Chart(groups=tuple(groups), ticks=_ticks(end))


def _lane(span: Span, end: float) -> Lane:
    return Lane(label=sanitize(span.label, 120), detail=seconds(span.duration_s), bars=(_bar(span, end),))


def _slots(spans: Sequence[Span], end: float) -> tuple[Lane, ...]:
    """Each span in the first lane that is free when it begins."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: span.started_s):
        free = next((lane for lane in lanes if lane[-1].finished_s <= span.started_s), None)
        if free is None:
            lanes.append([span])
        else:
            free.append(span)
    return tuple(
        Lane(f"slot {number}", f"{len(lane)} tasks", tuple(_bar(span, end, wait=False) for span in lane))
        for number, lane in enumerate(lanes, start=1)
    )


def _bar(span: Span, end: float, *, wait: bool = True) -> Bar:
    def percent(moment: float) -> float:
        return round(100 * moment / end, 3)

    x = min(percent(span.started_s), 100 - _THINNEST)
    styles = [span.status.value, "critical" if span.critical else "", "cached" if span.cached else ""]
    facts = [
        f"{seconds(span.started_s)} to {seconds(span.finished_s)}, {span.status}",
        f"waited {seconds(span.wait_s)}" if span.wait_s >= _SHOWN_WAIT_S else "",
        "from the cache" if span.cached else "",
        "on the critical path" if span.critical else "",
        f"on {span.worker}" if span.worker else "",
    ]
    return Bar(
        wait_x=percent(span.ready_s),
        wait_width=max(x - percent(span.ready_s), 0.0) if wait else 0.0,
        x=x,
        width=max(percent(span.duration_s), _THINNEST),
        style=" ".join(filter(None, styles)),
        title=sanitize(f"{span.label}: {', '.join(filter(None, facts))}", 400),
    )


def _ticks(end: float) -> tuple[Tick, ...]:
    """Marks at round seconds."""
    magnitude = 10 ** math.floor(math.log10(end / _MOST_TICKS))
    step = next(size * magnitude for size in (1, 2, 5, 10) if end / (size * magnitude) <= _MOST_TICKS)
    marks = [step * index for index in range(int(end / step) + 1)]
    return tuple(Tick(x=round(100 * mark / end, 3), label=f"{mark:g} s") for mark in marks)
