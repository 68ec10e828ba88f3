"""The figure: what fan-out and fan-in cost each system, beside the raw loop."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import environments
from benchmarks.report.tables import title
from benchmarks.samples import Measured

OURS = "tta"


def draw(measured: dict[str, Measured], file: Path) -> None:
    """Draw it, the same bytes for the same values."""
    rcParams["svg.hashsalt"] = "tta-tasks"
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, heading in (
        (left, "fanout", "N no-op tasks and a callback"),
        (right, "submission", "until N requests are accepted"),
    ):
        axes.set(xscale="log", yscale="log", xlabel="N", ylabel="ms", title=heading)
        axes.grid(visible=True, alpha=0.3)
        if name in measured:
            _lines(axes, measured[name])
    figure.savefig(file, metadata={"Date": None})


def _lines(axes: Axes, measured: Measured) -> None:
    names = environments.names()  # a system has the same colour in both
    for system in measured.systems:
        points = [(int(case), measured.median(system, case, "seconds")) for case in measured.cases]
        known = [(case, seconds * 1000) for case, seconds in points if seconds is not None]
        axes.plot(
            *zip(*known, strict=True),
            marker="o",
            markersize=3,
            linewidth=2.5 if system == OURS else 1,
            color="black" if system == OURS else colormaps["tab20"](names.index(system)),
            label=title(system),
        )
    axes.legend(fontsize=7, frameon=False)
