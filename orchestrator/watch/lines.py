"""Views for pipes, logs and programs: one line a change, no escape codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console

from orchestrator.report.model import Report
from orchestrator.report.wording import how_to_decide
from orchestrator.sanitize import sanitize
from orchestrator.watch.changes import Change, changes, outcome
from orchestrator.watch.style import spoken
from orchestrator.watch.summary import print_summary
from tta_tasks.models import RunRecord, Status

#: A pipe has no width of its own.
_WIDTH = 120


class PlainView:
    """One line for each change of a task's status."""

    def __init__(self, stream: TextIO) -> None:
        # No terminal, whatever the environment may claim.
        self._console = Console(
            file=stream, width=_WIDTH, highlight=False, color_system=None, force_terminal=False, legacy_windows=False
        )
        self._seen: RunRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def update(self, record: RunRecord) -> None:
        """Say what is new."""
        if self._seen is None:
            plan = record.plan
            self.note(f"{plan.title}: {plan.component.name} to {plan.target}, {plan.mode}, run {plan.id}")
        for change in changes(self._seen, record):
            if change.status:
                self._line(change)
        self._seen = record

    def note(self, message: str) -> None:
        """Say ``message``."""
        self._write(spoken(message, self._console))

    def summary(self, report: Report, files: Mapping[str, Path | str]) -> None:
        """Say what came of it."""
        print_summary(report, self._console, files)

    def _line(self, change: Change) -> None:
        task = change.task
        said = task.status.terminal or task.status is Status.PARKED
        words = spoken(outcome(task), self._console) if said else ""
        if how := how_to_decide(task):
            words = f"{words}: {how}"
        label = spoken(task.label, self._console)
        self._write(f"{change.at_s:7.1f}s  {task.status:<9}  {label}" + (f"  ({words})" if words else ""))

    def _write(self, line: str) -> None:
        # Not wrapped: a line is an event.
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


class JsonView:
    """One JSON object for each change, and the report as the last; notes go to standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._seen: RunRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def update(self, record: RunRecord) -> None:
        """Write what is new."""
        if self._seen is None:
            self._write("run", **record.plan.model_dump(mode="json", exclude={"component", "task_ids"}))
        for change in changes(self._seen, record):
            task = change.task
            self._write(
                "status" if change.status else "progress",
                at_s=round(change.at_s, 3),
                task_id=task.id,
                stage=task.stage,
                label=task.label,
                status=task.status,
                message=outcome(task),
                worker=task.worker,
            )
        self._seen = record

    def note(self, message: str) -> None:
        """Say ``message`` where it does not get between the objects."""
        sys.stderr.write(f"{sanitize(message)}\n")

    def summary(self, report: Report, files: Mapping[str, Path | str]) -> None:
        """Write the report."""
        self._write("report", report=report.model_dump(mode="json"), files={key: str(files[key]) for key in files})

    def _write(self, event: str, **values: object) -> None:
        # ASCII, so that no encoding of the stream can spoil it.
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()
