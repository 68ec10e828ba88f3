"""ruff, under the repository's configuration or else its default rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob, Workspace
from workers.component import quality_tools
from workers.gates.findings import Finding, Findings, ToolFailed, compare, reported

#: A test asserts, and compares with the values it expects, whatever else a repository forbids.
TEST_IDIOMS = ("S101", "PLR2004")


class _Fix(BaseModel):
    applicability: str


class _Location(BaseModel):
    row: int


class _Found(BaseModel):
    """What ruff says of one finding, as far as it is looked at."""

    filename: str
    location: _Location
    message: str
    code: str | None
    name: str | None = None
    fix: _Fix | None


_REPORT = TypeAdapter(list[_Found])


class LintGate:
    """Fails on new findings of ruff, in added tests too."""

    name = "lint"
    of_the_source = True

    def judge(self, job: GateJob) -> GateOutcome:
        """Compare what ruff finds with the baseline."""
        return compare(self.name, job, detect, [job.workspace.root / test for test in job.tests])

    def remedy(self, job: GateJob) -> str:  # noqa: ARG002 - the same for every tree
        """What to do about new findings."""
        return "look at the findings in the report"


def detect(workspace: Workspace, files: Sequence[Path]) -> Iterator[Finding]:
    """What ruff finds in ``files``.

    Raises:
        ToolFailed: It cannot work, say under this configuration.
    """
    if not files:
        return  # with no file named, ruff would take the whole folder
    sources = set(quality_tools.source_files(workspace))
    tests = quality_tools.names(workspace, [file for file in files if file not in sources])
    idioms = [f"--extend-per-file-ignores={test}:{rule}" for test in tests for rule in TEST_IDIOMS]
    report = ["--exit-zero", "--output-format", "json"]
    completed = quality_tools.ruff(workspace, "check", *report, *idioms, *quality_tools.names(workspace, files))
    if not completed.ok:
        raise ToolFailed(f"{quality_tools.why_failed(completed)}. Check the repository's configuration of ruff.")
    findings = Findings(workspace)
    for found in reported(completed, _REPORT):
        rule = found.code or found.name or "syntax"
        fixable = found.fix is not None and found.fix.applicability == "safe"
        yield findings.at(found.filename, found.location.row, rule, found.message, fixable=fixable)
