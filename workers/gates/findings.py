"""What the tools find, and which of it is new."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tta_tasks.errors import EngineFailed
from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob, Workspace
from workers.component import quality_tools

#: Findings listed with a verdict.
MAX_LISTED = 50


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

    @classmethod
    def at(
        cls, workspace: Workspace, file: str, line: int, rule: str, message: str, *, fixable: bool = False
    ) -> Finding:
        """A finding in ``file``, absolute or relative to the project folder."""
        path = os.path.relpath(os.path.realpath(workspace.project / file), os.path.realpath(workspace.root))
        lines = _lines(workspace.root / path)
        text = "".join(lines[line - 1].split()) if 0 < line <= len(lines) else ""
        return cls(Path(path).as_posix(), line, rule, message, text, fixable)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule} {self.message}"


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
    known = [job.baseline.root / file.relative_to(job.workspace.root) for file in added]
    return list(new(_detected(detect, job.baseline, [file for file in known if file.is_file()]), after))


def _detected(detect: Detect, workspace: Workspace, added: Sequence[Path]) -> list[Finding]:
    files = [*quality_tools.source_files(workspace), *added]
    return list(detect(workspace, files)) if files else []  # with no file named, tools take the whole folder


@lru_cache(maxsize=64)
def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
