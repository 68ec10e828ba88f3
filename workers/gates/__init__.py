"""The gates: what a tree must satisfy for a target.

A code base is not blocked by its history: of what the tools find, only what the tree has beyond its baseline counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tta_tasks import tracing
from tta_tasks.models import GateOutcome, Gates, SuiteReport, total_percent
from tta_tasks.protocols import Workspace
from workers.component import quality_tools
from workers.gates import lint, security, types
from workers.gates.findings import Detect, Finding, ToolFailed, new

__all__ = ["judge"]

#: Findings listed with a verdict.
MAX_LISTED = 50


@tracing.step("gates")
def judge(
    workspace: Workspace, baseline: Workspace, suite: SuiteReport, gates: Gates, tests: Sequence[str] = ()
) -> tuple[GateOutcome, ...]:
    """Hold a tree against its thresholds.

    Args:
        workspace: The tree.
        baseline: The tree as it was when the run began, in the same environment.
        suite: What the tests of ``workspace`` gave.
        gates: The thresholds.
        tests: Test files added since, relative to the root; they are linted, too.

    Returns:
        One verdict a gate. A tool that cannot work is a verdict, too.
    """
    compared = _Compared(workspace, baseline)
    added = [workspace.root / test for test in tests]
    with ThreadPoolExecutor(thread_name_prefix="gate") as pool:
        linted = pool.submit(compared.verdict, "lint", lint.detect, added, enforced=gates.lint)
        typed = pool.submit(_typed, compared, enforced=gates.types)
        secure = pool.submit(compared.verdict, "security", security.detect, enforced=gates.security)
        return (*_measured(suite, gates), linted.result(), typed.result(), secure.result())


def _measured(suite: SuiteReport, gates: Gates) -> Iterator[GateOutcome]:
    passing = f"{suite.pass_rate:.1f} % of {gates.pass_rate:g} %"
    holds = not suite.aborted and suite.pass_rate >= gates.pass_rate
    failing = tuple(failure.id for failure in suite.failures[:MAX_LISTED])
    detail = f"the suite did not come to its end: {suite.aborted}" if suite.aborted else passing
    yield GateOutcome(name="pass_rate", outcome="passed" if holds else "failed", detail=detail, findings=failing)
    if not suite.coverage:
        yield GateOutcome(name="coverage", outcome="failed", detail="coverage could not be measured")
        return
    percent = total_percent(suite.coverage)
    covered = f"{percent:.1f} % of {gates.coverage:g} %"
    yield GateOutcome(name="coverage", outcome="passed" if percent >= gates.coverage else "failed", detail=covered)


def _typed(compared: _Compared, *, enforced: bool) -> GateOutcome:
    if not types.wanted(compared.workspace):
        return GateOutcome(
            name="types", outcome="off", detail="the repository neither configures mypy nor ships py.typed"
        )
    return compared.verdict("types", types.detect, enforced=enforced)


@dataclass(frozen=True)
class _Compared:
    """Two trees, seen by a tool."""

    workspace: Workspace
    baseline: Workspace

    def verdict(
        self, name: Literal["lint", "types", "security"], detect: Detect, added: Sequence[Path] = (), *, enforced: bool
    ) -> GateOutcome:
        """What a tool says of the component's modules, and of the files ``added``."""
        blame: Literal["failed", "advisory"] = "failed" if enforced else "advisory"
        try:
            found = self._new(detect, added)
        except ToolFailed as error:
            return GateOutcome(name=name, outcome=blame, detail=str(error))
        if not found:
            return GateOutcome(name=name, outcome="passed", detail="no new findings")
        detail = f"{len(found)} new finding{'s' * (len(found) != 1)}"
        return GateOutcome(name=name, outcome=blame, detail=detail, findings=tuple(map(str, found[:MAX_LISTED])))

    def _new(self, detect: Detect, added: Sequence[Path]) -> list[Finding]:
        after = _detected(detect, self.workspace, added)
        if not after:
            return []  # nothing is nothing new; the baseline need not be looked at
        known = [self.baseline.root / file.relative_to(self.workspace.root) for file in added]
        return list(new(_detected(detect, self.baseline, [file for file in known if file.is_file()]), after))


def _detected(detect: Detect, workspace: Workspace, added: Sequence[Path]) -> list[Finding]:
    files = [*quality_tools.source_files(workspace), *added]
    return list(detect(workspace, files)) if files else []  # with no file named, tools take the whole folder
