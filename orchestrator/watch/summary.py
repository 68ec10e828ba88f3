"""The end of a run, on a terminal or in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.report import FORMS
from orchestrator.report.model import Report
from orchestrator.report.wording import change, counted, percent, reason, said, seconds, usage
from orchestrator.watch.style import glyph, spoken
from tta_tasks.models import RefactoringStep, Status

_MOST_FAILURES = 8


def print_summary(report: Report, console: Console, files: Mapping[str, Path | str] | None = None) -> None:
    """Print what came of a run.

    Args:
        report: The run, summed up.
        console: Where to.
        files: What was left -> where it is.
    """
    verdict = Text.assemble(glyph(report.status, console), " ", (spoken(report.verdict, console), "bold"))
    console.print()
    console.print(verdict)
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in [*_facts(report), *_files(files or {})]:
        table.add_row(name, Text(spoken(text, console)))
    console.print(table)
    if report.status is not Status.COMPLETED:
        _print_faults(report, console)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    if report.coverage_before is not None or report.coverage_after is not None:
        asked = f"{percent(report.coverage_threshold)} asked for"
        yield "coverage", f"{change(report.coverage_before, report.coverage_after)} ({asked})"
    if report.modules:
        yield "tests", _tests(report)
    if report.refactoring:
        yield "refactoring", "; ".join(_refactoring(report.refactoring))
    for item in report.dropped:
        yield "dropped", f"{item.what}: {item.reason}"
    for release in report.releases:
        if release.status is Status.COMPLETED:
            yield release.environment, f"{release.action.replace('_', ' ')}, {release.location}"
        if release.decision is not None:
            yield release.decision.outcome, f"{release.environment}, {said(release.decision)}"
    cached = f"; {counted(report.cached_tasks, 'task')} from the cache" if report.cached_tasks else ""
    floor = f"floor {seconds(report.floor_s)} on {counted(report.slots, 'slot')}"
    parked = f" ({seconds(report.parked_s)} parked)" if report.parked_s else ""
    yield "time", f"{seconds(report.measured_s)}{parked}, {floor}{cached}"
    if taken := usage(report.usage):
        yield "agents", taken
    for warning in report.warnings:
        yield "note", warning


def _tests(report: Report) -> str:
    reasons = ", ".join(f"{number} {reason(code)}" for code, number in report.rejections.items())
    rejected = f"{report.tests_rejected} rejected" + (f": {reasons}" if reasons else "")
    return f"{report.tests_accepted} {report.taken}; {rejected}"


def _refactoring(steps: Iterable[RefactoringStep]) -> Iterator[str]:
    """``pyupgrade 1 kept, 2 dropped``: a tool may take several steps."""
    outcomes: dict[str, Counter[str]] = {}
    for step in steps:
        outcomes.setdefault(step.name, Counter())[step.outcome] += 1
    for name, counts in outcomes.items():
        words = [f"{counts[outcome]} {outcome}" for outcome in ("kept", "dropped") if counts[outcome]]
        yield f"{name} {', '.join(words) or 'found nothing'}"


def _files(files: Mapping[str, Path | str]) -> Iterator[tuple[str, str]]:
    """What a person opens; the other forms of the report lie beside it."""
    for name, where in files.items():
        if name == "report" or name not in FORMS:
            yield name.replace(".patch", " patch"), str(where)


def _print_faults(report: Report, console: Console) -> None:
    faults = [f"{failure.id}" for failure in report.failures]
    faults += [error for stage in report.stages for error in stage.errors]
    if faults:
        console.print()
    for fault in faults[:_MOST_FAILURES]:
        console.print(Text.assemble(glyph(Status.FAILED, console), " ", spoken(fault, console)))
    if len(faults) > _MOST_FAILURES:
        console.print(Text(f"  and {len(faults) - _MOST_FAILURES} more, in the report", style="dim"))
