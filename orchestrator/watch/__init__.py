"""What a person, or a program, sees of a run while it goes on, and at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console

from orchestrator.report.model import Report
from orchestrator.watch.lines import JsonView, PlainView
from orchestrator.watch.live import LiveView
from orchestrator.watch.summary import print_summary
from tta_tasks.models import RunRecord

__all__ = ["JsonView", "LiveView", "PlainView", "RunView", "choose_view", "print_summary"]


class RunView(Protocol):
    """Shows a run. A context manager around the updates; the summary comes after."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Leave the terminal as it was."""

    def update(self, record: RunRecord) -> None:
        """Show the run as it is now."""

    def note(self, message: str) -> None:
        """Tell the person something beside the run."""

    def summary(self, report: Report, files: Mapping[str, Path | str]) -> None:
        """Show what came of it, and what was left where."""


def choose_view(
    clock: Callable[[], float] = time.time, *, as_json: bool = False, stream: TextIO | None = None
) -> RunView:
    """The view that fits ``stream`` (standard output): live in a terminal, lines elsewhere, JSON if asked for.

    Args:
        clock: Seconds since the epoch, as the ledger has them.
        as_json: Whether JSON is asked for.
        stream: Where it is shown.
    """
    stream = sys.stdout if stream is None else stream
    if as_json:
        return JsonView(stream)
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, clock)
    return PlainView(stream)
