"""The first look at candidates: where they want to go, and what their text says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, Module, RejectedTest
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
    workspace: Workspace,
    pristine: ForeignTree,
    module: Module,
    candidates: Sequence[CandidateTests],
    rejected: list[RejectedTest],
) -> list[Draft]:
    """Parse candidates and take out what need not be run; the reasons are added to ``rejected``.

    Args:
        workspace: Where they are going to run.
        pristine: A copy of its tree, where nothing has run.
        module: What they test.
        candidates: The candidates.
        rejected: Gets the reasons.
    """
    check = _Checks(workspace, pristine, module)
    drafts: dict[str, Draft] = {}
    for candidate in candidates:
        if reason := _path_fault(workspace.component, pristine, candidate.path, drafts):
            rejected.append(RejectedTest(name=candidate.path, reason="path", detail=reason))
            continue
        try:
            file = TestFile(candidate.source)
        except SyntaxError as error:
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
    def __init__(self, workspace: Workspace, pristine: ForeignTree, module: Module) -> None:
        root = PurePosixPath(workspace.component.root)
        self.known = existing_tests(pristine, root / workspace.component.tests)
        # Copies of the tree, where tests may have been written, are all in the folder that the first one is in.
        self.places = (str(workspace.root), str(workspace.scratch), str(pristine.root.parent))
        try:
            self.module_source = pristine.read_text(root / module.path, errors="replace")
        except OSError:
            self.module_source = ""

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


def _path_fault(component: Component, pristine: ForeignTree, path: str, taken: Iterable[str]) -> str:
    """Why a file may not be written there, or an empty string."""
    pure, tests = PurePosixPath(path), PurePosixPath(component.tests)
    place = PurePosixPath(component.root, pure)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.is_relative_to(tests) or pure == tests:
        return f"is not below {tests}"
    if pure.suffix != ".py" or pure.name in {"conftest.py", "__init__.py"}:
        return "is not a test file"
    if path in taken:
        return "is written by another candidate, too"
    if pristine.exists(place):
        return "exists already"
    if any(pristine.exists(folder) and not pristine.is_folder(folder) for folder in place.parents[:-1]):
        return "leads through a link or a file"
    return ""
