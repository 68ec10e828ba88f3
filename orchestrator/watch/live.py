"""The live view: stages, modules, what each is doing, how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.report.build import stage_status
from orchestrator.report.model import Report
from orchestrator.report.wording import counted, how_to_decide, seconds
from orchestrator.watch.changes import outcome
from orchestrator.watch.style import COLOURS, glyph, spoken
from orchestrator.watch.summary import print_summary
from tta_tasks.models import GenerationRequest, RunRecord, Stage, Status, TaskRecord

#: Lines that are not modules: header, stages, a count, and the prompt that follows.
_OTHER_LINES = 12
#: Below this many columns, who does a task gives way to what it does.
_NARROW = 90
#: Columns for names, where they need no more.
_NAME = 22
#: Which modules are shown when not all can be: those that need a look first.
_ORDER = (
    *(Status.RUNNING, Status.FAILED, Status.PARKED, Status.QUEUED),
    *(Status.COMPLETED, Status.CANCELLED, Status.SKIPPED),
)


#: Whose words have the colour of their status.
_COLOURED = frozenset({Status.FAILED, Status.PARKED})


class LiveView:
    """Redraws the state of a run in place, a few times a second.

    Args:
        console: A terminal.
        clock: Seconds since the epoch, as the ledger has them.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._record: RunRecord | None = None
        self._note = ""
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._live.stop()

    def update(self, record: RunRecord) -> None:
        """Show the run as it is now."""
        self._record = record

    def note(self, message: str) -> None:
        """Show ``message`` below the run."""
        self._note = message

    def summary(self, report: Report, files: Mapping[str, Path | str]) -> None:
        """Print what came of it."""
        print_summary(report, self._console, files)

    def render(self) -> RenderableType:
        """The state as it is now."""
        record = self._record
        if record is None:
            return Text("Waiting for the run.", style="dim")
        parts: list[RenderableType] = [self._header(record), Text(), self._table(record)]
        parts += [
            Text(spoken(f"{task.label}: {how}", self._console), style="yellow")
            for task in record.tasks
            if (how := how_to_decide(task))
        ]
        if self._note:
            parts.append(Text(spoken(self._note, self._console), style="yellow"))
        return Group(*parts)

    # -- parts

    @property
    def _overflow(self) -> Literal["crop", "ellipsis"]:
        return "crop" if self._console.options.ascii_only else "ellipsis"

    def _header(self, record: RunRecord) -> Text:
        plan = record.plan
        facts = f"{plan.component.name} to {plan.target} \u00b7 {plan.mode} \u00b7 {seconds(self._elapsed(record))}"
        width = max(self._console.width - len(facts) - 4, 12)
        text = Text.assemble(
            (spoken(plan.title, self._console, width), "bold"), "  ", no_wrap=True, overflow=self._overflow
        )
        return text.append(spoken(facts, self._console), style="dim")

    def _elapsed(self, record: RunRecord) -> float:
        start = min((task.submitted_at for task in record.tasks), default=record.plan.created_at)
        ends = [task.finished_at for task in record.tasks if task.finished_at is not None]
        return (max(ends) if record.status.terminal and ends else self._clock()) - start

    def _table(self, record: RunRecord) -> Table:
        wide = self._console.width >= _NARROW
        table = Table.grid(padding=(0, 1, 0, 0), expand=True)
        table.add_column(width=1)
        most = self._console.width * 2 // 5
        table.add_column(no_wrap=True, overflow=self._overflow, min_width=min(_NAME, most), max_width=most)
        table.add_column(no_wrap=True, overflow=self._overflow, ratio=5)
        if wide:
            table.add_column(no_wrap=True, overflow=self._overflow, ratio=2, style="dim")
        table.add_column(no_wrap=True, justify="right", width=11, style="dim")
        for row in self._rows(record):
            table.add_row(*(row if wide else (*row[:3], row[4])))
        return table

    def _rows(self, record: RunRecord) -> Iterator[tuple[Text, Text, Text, Text, Text]]:
        for stage in Stage:
            tasks = [task for task in record.tasks if task.stage is stage]
            if stage is Stage.GENERATION and tasks:
                yield self._stage_row(tasks)
                yield from self._modules(tasks)
            elif tasks:
                yield self._task_row(tasks[0], stage.value)

    def _stage_row(self, tasks: Sequence[TaskRecord]) -> tuple[Text, Text, Text, Text, Text]:
        status = stage_status([task.status for task in tasks])
        done = sum(task.status.terminal for task in tasks)
        starts = [task.started_at for task in tasks if task.started_at is not None]
        ends = [task.finished_at for task in tasks if task.finished_at is not None]
        taken = ""
        if starts:
            taken = seconds((max(ends) if status.terminal and ends else self._clock()) - min(starts))
        style = "" if status is not Status.QUEUED else "dim"
        words = f"{done} of {counted(len(tasks), 'module')}"
        return glyph(status, self._console), Text("generation", style), Text(words, "dim"), Text(), Text(taken)

    def _modules(self, tasks: Sequence[TaskRecord]) -> Iterator[tuple[Text, Text, Text, Text, Text]]:
        room = max(self._console.height - _OTHER_LINES, 3)
        shown, hidden = list(tasks), []
        if len(tasks) > room:
            urgent = sorted(tasks, key=lambda task: _ORDER.index(task.status))
            kept = {task.id for task in urgent[: room - 1]}
            shown = [task for task in tasks if task.id in kept]
            hidden = [task for task in tasks if task.id not in kept]
        package = "" if self._console.width >= _NARROW else _shared_package(tasks)
        for task in shown:
            yield self._task_row(task, f"  {_module(task).removeprefix(package)}")
        if hidden:
            counts = [(status, sum(task.status is status for task in hidden)) for status in _ORDER]
            words = ", ".join(f"{count} {status}" for status, count in counts if count)
            yield Text(), Text("  others", "dim"), Text(words, "dim"), Text(), Text()

    def _task_row(self, task: TaskRecord, name: str) -> tuple[Text, Text, Text, Text, Text]:
        indent = name[: len(name) - len(name.lstrip())]
        label = Text(indent + spoken(name, self._console), "dim" if task.status is Status.QUEUED else "")
        words = Text(spoken(outcome(task), self._console), COLOURS[task.status] if task.status in _COLOURED else "")
        where = f"queue {task.queue}" if task.status is Status.QUEUED else task.worker
        taken = ""
        if task.status is Status.PARKED and task.promotion is not None:
            taken = seconds(self._clock() - task.promotion.since)
        if task.started_at is not None and task.status is not Status.SKIPPED:
            taken = seconds((task.finished_at or self._clock()) - task.started_at)
        if task.attempts > 1 and not task.status.terminal:
            words.append(f" (attempt {task.attempts})", style="yellow")
        return glyph(task.status, self._console), label, words, Text(spoken(where, self._console)), Text(taken)


def _module(task: TaskRecord) -> str:
    return task.request.module.name if isinstance(task.request, GenerationRequest) else task.label


def _shared_package(tasks: Sequence[TaskRecord]) -> str:
    """What a narrow terminal need not show of each module's name: ``calculator.``."""
    packages = {_module(task).partition(".")[0] for task in tasks}
    return f"{packages.pop()}." if len(packages) == 1 else ""
