"""The first look at candidates: where they want to go, and what their text says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tta_tasks.models import Module, RejectedTest
from tta_tasks.protocols import CandidateTests, Workspace
from workers.acceptance.duplicates import existing_tests, meanings
from workers.acceptance.source import TestFile
from workers.acceptance.static import StaticCheck


@dataclass(frozen=True, eq=False)
class Draft:
    """A candidate file with nothing in it that its text alone condemns."""

    candidate: CandidateTests
    file: TestFile

    @property
    def path(self) -> str:
        """Relative to the project."""
        return self.candidate.path


def read(
    workspace: Workspace, module: Module, candidates: Sequence[CandidateTests], rejected: list[RejectedTest]
) -> list[Draft]:
    """Parse candidates and take out what need not be run; the reasons are added to ``rejected``."""
    known = existing_tests(workspace.tests)
    check = _Checks(workspace, module, known)
    drafts: dict[str, Draft] = {}
    for candidate in candidates:
        if reason := _path_fault(workspace, candidate.path, drafts):
            rejected.append(RejectedTest(name=candidate.path, reason="path", detail=reason))
            continue
        try:
            file = TestFile(candidate.source)
        except (SyntaxError, ValueError) as error:
            rejected.append(RejectedTest(name=candidate.path, reason="syntax", detail=str(error)))
            continue
        faults = list(check.faults(file, candidate.path))
        rejected += faults
        source = file.without({fault.name for fault in faults}) if faults else file.source
        if not file.functions:
            rejected.append(RejectedTest(name=candidate.path, reason="no_tests", detail="holds no test function"))
        elif source:
            drafts[candidate.path] = Draft(candidate, TestFile(source))
    return list(drafts.values())


class _Checks:
    def __init__(self, workspace: Workspace, module: Module, known: dict[str, str]) -> None:
        self.known = known
        self.places = (str(workspace.root), str(workspace.scratch))
        path = workspace.project / module.path
        self.module_source = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def faults(self, file: TestFile, path: str) -> Iterator[RejectedTest]:
        static = StaticCheck(file, self.module_source, self.places)
        for meaning, function in meanings(file, path):
            fault = static.fault(function)
            if fault is not None:
                yield RejectedTest(name=function.key, reason=fault.reason, detail=fault.detail)
            elif other := self.known.get(meaning):
                yield RejectedTest(name=function.key, reason="duplicate", detail=f"the same as {other}")
            else:
                self.known[meaning] = f"{PurePosixPath(path).name}::{function.key}"


def _path_fault(workspace: Workspace, path: str, taken: Iterable[str]) -> str:
    """Why a file may not be written there, or an empty string."""
    pure = PurePosixPath(path)
    tests = PurePosixPath(workspace.component.tests)
    place = workspace.project / pure
    if pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.is_relative_to(tests) or pure == tests:
        return f"is not below {tests}"
    if pure.suffix != ".py" or pure.name in {"conftest.py", "__init__.py"}:
        return "is not a test file"
    if path in taken:
        return "is written by another candidate, too"
    if place.exists() or place.is_symlink():
        return "exists already"
    if not place.resolve().is_relative_to(workspace.project.resolve()):
        return "leads out of the project"
    return ""
