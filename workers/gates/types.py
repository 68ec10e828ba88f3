"""mypy, where the repository has itself type-checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob, Workspace
from workers.component import quality_tools
from workers.gates.findings import Finding, Findings, ToolFailed, compare

_ERROR = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>[0-9]{1,9}):(?:[0-9]+:)? error: (?P<message>.*?)(?:  \[(?P<rule>[\w-]+)\])?$",
    re.MULTILINE,
)
#: mypy's status when it found errors; above, it could not check.
_FOUND = 1


class TypesGate:
    """Fails on new errors of mypy; off where the repository is not type-checked."""

    name = "types"
    of_the_source = True

    def judge(self, job: GateJob) -> GateOutcome:
        """Compare what mypy finds with the baseline."""
        if not _typed(job.workspace):
            off = "the repository neither configures mypy nor ships py.typed"
            return GateOutcome(name=self.name, outcome="off", detail=off)
        return compare(self.name, job, detect)

    def remedy(self, job: GateJob) -> str:  # noqa: ARG002 - the same for every tree
        """What to do about new errors."""
        return "look at the type errors in the report"


def _typed(workspace: Workspace) -> bool:
    """Whether the repository configures mypy, or promises types by ``py.typed``."""
    packages = {module.name.partition(".")[0] for module in workspace.component.modules}
    typed = any(quality_tools.has_file(workspace, workspace.import_root / package / "py.typed") for package in packages)
    return typed or _configuration(workspace) is not None


def detect(workspace: Workspace, _files: Sequence[Path] = ()) -> Iterator[Finding]:
    """What mypy finds in the component's modules.

    Raises:
        ToolFailed: It cannot work, say because of a plugin that is not installed.
    """
    # A plugin of mypy is code of the repository: the tree that other gates look at meanwhile is not for it to change.
    completed = quality_tools.run(
        workspace, _command(workspace), {"MYPYPATH": str(workspace.import_root)}, changes=False
    )
    if completed.stopped is not None or completed.returncode not in {0, _FOUND}:
        why = quality_tools.why_failed(completed)
        raise ToolFailed(f"{why}. A mypy among the component's own dependencies for tests would be used.")
    findings = Findings(workspace)
    for error in _ERROR.finditer(completed.stdout):
        yield findings.at(error["file"], int(error["line"]), error["rule"] or "error", error["message"])


def _command(workspace: Workspace) -> list[str | Path]:
    # The component's own mypy, where it has one: it knows its version and plugins.
    own = ForeignTree(workspace.python.parent).is_file("mypy")
    command = quality_tools.isolated("mypy", workspace.python if own else None)
    command += ["--python-executable", workspace.python, "--config-file", _configuration(workspace) or ""]
    command += ["--cache-dir", os.path.relpath(workspace.scratch / "mypy", workspace.project)]
    command += ["--no-error-summary", "--no-pretty", "--hide-error-context", "--show-error-codes", "--no-color-output"]
    return command + [word for module in workspace.component.modules for word in ("-m", module.name)]


def _configuration(workspace: Workspace) -> Path | None:
    for folder in quality_tools.folders(workspace):
        for name in ("mypy.ini", ".mypy.ini"):
            if quality_tools.has_file(workspace, folder / name):
                return folder / name
        if "mypy" in quality_tools.pyproject_tools(workspace, folder):
            return folder / "pyproject.toml"
        if quality_tools.has_section(workspace, folder / "setup.cfg", "mypy"):
            return folder / "setup.cfg"
    return None
