"""bandit: what is of medium severity and above."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tta_tasks.protocols import Workspace
from workers.component import quality_tools
from workers.gates.findings import Finding, ToolFailed


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
