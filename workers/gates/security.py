"""bandit: what is of medium severity and above."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob, Workspace
from workers.component import quality_tools
from workers.gates.findings import Finding, ToolFailed, compare


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
    for found in json.loads(completed.stdout)["results"]:
        yield Finding.at(workspace, found["filename"], found["line_number"], found["test_id"], found["issue_text"])


def _configuration(workspace: Workspace) -> list[str]:
    for folder in quality_tools.folders(workspace):
        if "bandit" in quality_tools.pyproject_tools(folder):
            return ["--configfile", *quality_tools.names(workspace, [folder / "pyproject.toml"])]
        if (folder / ".bandit").is_file():
            return ["--ini", *quality_tools.names(workspace, [folder / ".bandit"])]
    return []
