"""What several tasks contributed to one tree, and which of it holds together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from tta_tasks import patches
from tta_tasks.errors import PatchError
from tta_tasks.models import Dropped, SuiteReport
from tta_tasks.protocols import Workspace
from workers.component import quality_tools
from workers.component.copies import copied, fresh_copy

REFACTORING = "refactoring"

#: Content of files by path, relative to the root; ``None`` where the file is gone.
_Contents = dict[str, bytes | None]


@dataclass(frozen=True)
class Choice:
    """Some of the contributions."""

    #: Test files, relative to the root, in the order they came.
    tests: tuple[str, ...]
    refactoring: bool


NOTHING = Choice((), refactoring=False)


@dataclass
class Combination:
    """A pristine tree, and contributions to it."""

    #: Nothing runs there: what is run, and what judges by running, gets a copy.
    pristine: Workspace
    #: What could not even be applied.
    refused: list[Dropped] = field(default_factory=list)
    _tests: _Contents = field(default_factory=dict)
    _refactoring: _Contents = field(default_factory=dict)

    @property
    def everything(self) -> Choice:
        """All contributions."""
        return Choice(tuple(self._tests), bool(self._refactoring))

    def add_tests(self, what: str, patch: bytes) -> None:
        """Take the files that a patch adds; ``what`` names it where it does not apply, or does more."""
        self._add(what, patch, self._tests, self._tested, self._is_test)

    def add_refactoring(self, patch: bytes) -> None:
        """Take the source files that a patch changes; it may change no others."""
        self._add(REFACTORING, patch, self._refactoring, self._refactored, self._sources.__contains__)

    def assembled(self, choice: Choice) -> AbstractContextManager[Workspace]:
        """A fresh tree with ``choice``, where nothing has run yet; gone at the end of the block."""
        changes = {path: self._tests[path] for path in choice.tests}
        return fresh_copy(self.pristine, changes | (self._refactoring if choice.refactoring else {}))

    def tests_patch(self, choice: Choice) -> bytes:
        """What adds the chosen tests to the pristine tree; empty for none."""
        return self._patch(self._tested, choice.tests)

    def refactoring_patch(self, choice: Choice) -> bytes:
        """What adds the refactoring, where it was chosen, to the pristine tree or to the one with the tests."""
        return self._patch(self._refactored, self._refactoring if choice.refactoring else ())

    def _patch(self, tree: Path, paths: Collection[str]) -> bytes:
        if not paths:
            return b""
        return patches.between(patches.present(self.pristine.root, paths), patches.present(tree, paths))

    def _add(self, what: str, patch: bytes, into: _Contents, tree: Path, allowed: Callable[[str], bool]) -> None:
        try:
            touched = patches.apply(patch, tree, allowed=allowed)
            now = patches.present(tree, touched)
        except PatchError as error:
            self.refused.append(Dropped(what=what, reason=f"{error.message} {error.hint}".rstrip()))
        else:
            into |= {path: now[path].content if path in now else None for path in touched}

    def _is_test(self, path: str) -> bool:
        """Whether a file may come with tests: neither source, nor what configures the tools that judge it."""
        component, file = self.pristine.component, PurePosixPath(path)
        named = file.match("test_*.py") or file.match("*_test.py")
        beside = component.tests != "." and file.is_relative_to(PurePosixPath(component.root, component.tests))
        return (named or beside) and path not in self._sources

    @cached_property
    def _tested(self) -> Path:
        """The tree that takes the patches with tests; two that meet in one file are noticed there."""
        return copied(self.pristine).root

    @cached_property
    def _refactored(self) -> Path:
        return copied(self.pristine).root

    @cached_property
    def _sources(self) -> set[str]:
        return {file.relative_to(self.pristine.root).as_posix() for file in quality_tools.source_files(self.pristine)}


def settle(trial: Callable[[Choice], SuiteReport], everything: Choice) -> tuple[Choice, SuiteReport, list[Dropped]]:
    """Find what holds together; drop the rest, and say why.

    The refactoring is suspected first; then test files, those that fail by name before those that make others fail.

    Args:
        trial: Runs the suite on a tree with a choice of contributions.
        everything: All contributions.

    Returns:
        What is kept, what the suite gave on it, and what is dropped. The suite may not be green still: when it fails
        without any contribution, none of them is to blame.
    """
    report = trial(everything)
    if report.green:
        return everything, report, []
    choice = replace(everything, refactoring=False)
    plain = trial(choice) if everything.refactoring else report
    choice, plain, dropped = _without_culprits(trial, choice, plain)
    if everything.refactoring:
        whole = trial(replace(choice, refactoring=True)) if dropped else report
        if whole.green or _no_worse(whole, plain):
            return replace(choice, refactoring=True), whole, dropped
        dropped.insert(0, Dropped(what=REFACTORING, reason=f"with it, {why_red(whole)}"))
    return choice, plain, dropped


def why_red(report: SuiteReport) -> str:
    """One line on a suite that is not green."""
    if report.aborted:
        return f"the suite does not come to its end: {report.aborted}"
    count = report.failed + report.errors
    named = "".join(f": {first.id} ({_said(first.message)})" for first in report.failures[:1])
    return f"{count} test{'s' * (count != 1)} fail{'s' * (count == 1)}{named}"


def _said(traceback: str) -> str:
    """The line of pytest's traceback that says what was wrong."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    return (
        next((line for line in lines if line.startswith("E ")), lines[-1] if lines else "")
        .removeprefix("E")
        .strip()[:200]
    )


def _without_culprits(
    trial: Callable[[Choice], SuiteReport], choice: Choice, report: SuiteReport
) -> tuple[Choice, SuiteReport, list[Dropped]]:
    dropped: list[Dropped] = []
    while not report.green and choice.tests:
        culprits = _failing(report, choice.tests) or _spoiling(trial, choice)
        if not culprits:
            break
        dropped += [Dropped(what=test, reason=why_red(_of(report, test))) for test in culprits]
        choice = replace(choice, tests=tuple(test for test in choice.tests if test not in culprits))
        report = trial(choice)
    return choice, report, dropped


def _no_worse(report: SuiteReport, than: SuiteReport) -> bool:
    """Whether all that fails would fail anyway."""
    known = {failure.id for failure in than.failures}
    return report.aborted == than.aborted and all(failure.id in known for failure in report.failures)


def _failing(report: SuiteReport, tests: Sequence[str]) -> list[str]:
    """The test files with failures of their own."""
    return [test for test in tests if any(_is_in(failure.id, test) for failure in report.failures)]


def _spoiling(trial: Callable[[Choice], SuiteReport], choice: Choice) -> list[str]:
    """The first test file with which the suite is no longer green, found by halving; none if it never was."""
    if not trial(replace(choice, tests=())).green:
        return []
    green, red = 0, len(choice.tests)
    while red - green > 1:
        middle = (green + red) // 2
        if trial(replace(choice, tests=choice.tests[:middle])).green:
            green = middle
        else:
            red = middle
    return [choice.tests[green]]


def _of(report: SuiteReport, test: str) -> SuiteReport:
    """The failures of one file; of all, where it has none of its own."""
    own = tuple(failure for failure in report.failures if _is_in(failure.id, test))
    return report.model_copy(update={"failures": own, "failed": len(own), "errors": 0}) if own else report


def _is_in(node: str, test: str) -> bool:
    """Whether a pytest node is in a test file; node ids may be relative to any folder above it."""
    file = node.partition("::")[0]
    return test == file or test.endswith(f"/{file}")
