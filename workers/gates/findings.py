"""What the tools find, and which of it is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import GateOutcome
from tta_tasks.protocols import Completed, GateJob, Workspace
from workers.component import parsing, paths, quality_tools

#: Findings listed with a verdict.
MAX_LISTED = 50

Shape = TypeVar("Shape")


class ToolFailed(EngineFailed):
    """A tool did not come to a verdict; says why, and what to do."""


@dataclass(frozen=True)
class Finding:
    """Something a tool does not like."""

    #: Relative to the checkout's root.
    path: str
    line: int
    rule: str
    message: str
    #: The line it is on without white space: what stays the same when lines move.
    text: str
    #: Whether its tool can safely mend it by itself.
    fixable: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule} {self.message}"


class Findings:
    """Makes findings of what a tool says of a tree.

    Args:
        workspace: The tree.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lines = cache(self._read)

    def at(self, file: str, line: int, rule: str, message: str, *, fixable: bool = False) -> Finding:
        """A finding in ``file``, absolute or relative to the project folder."""
        place = paths.inside(self._workspace, file)
        if place is None:  # of a library, say: its text is none of ours
            return Finding(file, line, rule, message, "", fixable)
        lines = self._lines(place.as_posix())
        text = "".join(lines[line - 1].split()) if 0 < line <= len(lines) else ""
        return Finding(place.as_posix(), line, rule, message, text, fixable)

    def _read(self, path: str) -> list[str]:
        try:
            tree = ForeignTree(self._workspace.root)
            return tree.read_text(path, max_bytes=parsing.MAX_SOURCE_BYTES, errors="replace").splitlines()
        except OSError:
            return []


def reported(completed: Completed, shape: TypeAdapter[Shape]) -> Shape:
    """What a tool wrote as JSON.

    Raises:
        ToolFailed: It is of another shape.
    """
    try:
        return shape.validate_json(completed.stdout)
    except ValidationError as error:
        raise ToolFailed(f"The tool's report cannot be read: {error.errors()[0]['msg']}.") from error


#: What a gate runs: finds what is wrong with some files of a tree, or raises ToolFailed.
Detect = Callable[[Workspace, Sequence[Path]], Iterable[Finding]]


def new(before: Iterable[Finding], after: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of ``after`` that were not there before.

    A line that moved keeps its findings, and a file has as many of a rule as it ever had before one is new, so that
    rewriting a line does not make an old finding new.
    """
    before, after = list(before), list(after)
    known = Counter((f.path, f.rule, f.text) for f in before)
    more = Counter((f.path, f.rule) for f in after) - Counter((f.path, f.rule) for f in before)
    for finding in after:
        if known[finding.path, finding.rule, finding.text]:
            known[finding.path, finding.rule, finding.text] -= 1
        elif more[finding.path, finding.rule]:
            more[finding.path, finding.rule] -= 1
            yield finding


def compare(name: str, job: GateJob, detect: Detect, added: Sequence[Path] = ()) -> GateOutcome:
    """Judge a tree by the findings that its baseline does not have.

    Args:
        name: The gate.
        job: The tree and its baseline.
        detect: What finds, in the component's modules and in ``added``.
        added: More files of the tree to look at.

    Returns:
        The verdict; only reported where the target does not enforce the gate.

    Raises:
        ToolFailed: The tool does not come to a verdict.
    """
    found = _new(job, detect, added)
    if not found:
        return GateOutcome(name=name, outcome="passed", detail="no new findings")
    detail = f"{len(found)} new finding{'s' * (len(found) != 1)}"
    outcome = GateOutcome(name=name, outcome="failed", detail=detail, findings=tuple(map(str, found[:MAX_LISTED])))
    return outcome if job.gates.enforced(name) else outcome.model_copy(update={"outcome": "reported"})


def _new(job: GateJob, detect: Detect, added: Sequence[Path]) -> list[Finding]:
    after = _detected(detect, job.workspace, added)
    if not after:
        return []  # nothing is nothing new; the baseline need not be looked at
    places = (job.baseline.root / file.relative_to(job.workspace.root) for file in added)
    known = [file for file in places if quality_tools.has_file(job.baseline, file)]
    return list(new(_detected(detect, job.baseline, known), after))


def _detected(detect: Detect, workspace: Workspace, added: Sequence[Path]) -> list[Finding]:
    files = [*quality_tools.source_files(workspace), *added]
    return list(detect(workspace, files)) if files else []  # with no file named, tools take the whole folder
