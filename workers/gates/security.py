"""bandit: what is of medium severity and above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob, Workspace
from workers.component import quality_tools
from workers.gates.findings import Finding, Findings, ToolFailed, compare, reported


class _Found(BaseModel):
    """What bandit says of one finding, as far as it is looked at."""

    filename: str
    line_number: int
    test_id: str
    issue_text: str


class _Report(BaseModel):
    results: list[_Found]


_REPORT = TypeAdapter(_Report)


class SecurityGate:
    """Fails on new findings of bandit."""

    name = "security"
    of_the_source = True

    def judge(self, job: GateJob) -> GateOutcome:
        """Compare what bandit finds with the baseline."""
        return compare(self.name, job, detect)

    def remedy(self, job: GateJob) -> str:  # noqa: ARG002 - the same for every tree
        """What to do about new findings."""
        return "look at the security findings in the report"


def detect(workspace: Workspace, files: Sequence[Path]) -> Iterator[Finding]:
    """What bandit finds in ``files``.

    Raises:
        ToolFailed: It cannot work, say under this configuration.
    """
    report = ["--quiet", "--exit-zero", "--format", "json", "--severity-level", "medium"]
    configuration = _configuration(workspace)
    completed = quality_tools.python_tool(
        workspace, "bandit", *report, *configuration, *quality_tools.names(workspace, files)
    )
    if not completed.ok:
        raise ToolFailed(f"{quality_tools.why_failed(completed)}. Check the repository's configuration of bandit.")
    findings = Findings(workspace)
    for found in reported(completed, _REPORT).results:
        yield findings.at(found.filename, found.line_number, found.test_id, found.issue_text)


def _configuration(workspace: Workspace) -> list[str]:
    for folder in quality_tools.folders(workspace):
        if "bandit" in quality_tools.pyproject_tools(workspace, folder):
            return ["--configfile", *quality_tools.names(workspace, [folder / "pyproject.toml"])]
        if quality_tools.has_file(workspace, folder / ".bandit"):
            return ["--ini", *quality_tools.names(workspace, [folder / ".bandit"])]
    return []
