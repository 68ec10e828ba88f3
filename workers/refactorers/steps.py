"""What the embedded refactorer does, one tool a step. Each changes files in place and says what it did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Completed, Workspace
from workers.component import quality_tools

#: For repositories that do not configure ruff: groups whose safe fixes keep behaviour.
DEFAULT_RULES = ("F", "I", "UP", "SIM", "C4", "PIE", "RET", "PERF", "B")
#: Where nobody said that a formatter is used: the share of lines it may change and still be at home.
NEARLY_FORMATTED = 0.05

#: The status both for files and for configuration it cannot read.
_UNREADABLE = 2
_FILE = re.compile(r"^- (.+):$")
_FIXED = re.compile(r"^\s+(\d+) \S ([A-Z]+\d+)")


@dataclass(frozen=True)
class Done:
    """What a tool says it did."""

    #: Fixes by rule, of each file, where the tool counts them.
    fixes: Mapping[Path, Counter[str]] = field(default_factory=dict)
    #: Why nothing was done, where there is more to say than that there was nothing to do.
    idle: str = ""


def modernise(workspace: Workspace, files: Sequence[Path]) -> Done:
    """Write in the style of the oldest Python the component supports."""
    oldest = quality_tools.minimal_python(workspace)
    if oldest is None:
        return Done(idle="the component supports Python 2")
    flag = "--py3-plus" if oldest < (3, 6) else f"--py3{oldest[1]}-plus"
    # What might be looked at while the program runs stays as it is.
    keep = ["--keep-runtime-typing", "--keep-percent-format", "--keep-mock"]
    _require(
        quality_tools.python_tool(
            workspace, "pyupgrade", flag, *keep, "--exit-zero-even-if-changed", *quality_tools.names(workspace, files)
        )
    )
    return Done()


def fix(workspace: Workspace, files: Sequence[Path]) -> Done:
    """Apply the safe fixes of ruff's rules."""
    options = [] if quality_tools.ruff_configured(workspace) else _default_rules(workspace)
    fixing = ["--fix-only", "--no-unsafe-fixes", "--show-fixes"]
    completed = _require(
        quality_tools.ruff(workspace, "check", *fixing, *options, *quality_tools.names(workspace, files))
    )
    return Done(fixes=_counted(workspace, completed.stdout + completed.stderr))


def format(workspace: Workspace, files: Sequence[Path]) -> Done:  # noqa: A001 - a step's name; `ruff format`
    """Format, where the repository has it done anyway."""
    style = _black(workspace)
    options = _target(workspace) if not quality_tools.ruff_configured(workspace) else []
    if style is not None:
        options = [*options, *style]
    elif not _formatted_by_ruff(workspace):
        share = _share_changed(workspace, files, options)
        if share > NEARLY_FORMATTED:
            return Done(idle=f"no formatter is configured, and {share:.0%} of the lines would change")
    _require(quality_tools.ruff(workspace, "format", *options, *quality_tools.names(workspace, files)))
    return Done()


def _default_rules(workspace: Workspace) -> list[str]:
    rules = list(DEFAULT_RULES)
    oldest = quality_tools.minimal_python(workspace)
    if oldest is None or oldest < (3, 7):
        rules.remove("UP")  # ruff knows no older Python
    # Imports of a package's __init__ are there to be imported from it.
    return ["--select", ",".join(rules), "--per-file-ignores", "__init__.py:F401", *_target(workspace)]


def _target(workspace: Workspace) -> list[str]:
    oldest = max(quality_tools.minimal_python(workspace) or (3, 7), (3, 7))
    return ["--target-version", f"py3{oldest[1]}"]


def _formatted_by_ruff(workspace: Workspace) -> bool:
    return any(
        "format" in quality_tools.pyproject_tools(workspace, folder).get("ruff", {})
        or quality_tools.names_hook(workspace, folder, "ruff-format", "black")
        or any("format" in quality_tools.tables(workspace, folder / name) for name in ("ruff.toml", ".ruff.toml"))
        for folder in quality_tools.folders(workspace)
    )


def _black(workspace: Workspace) -> list[str] | None:
    """Options of ruff for the nearest configuration of black."""
    tables = (quality_tools.pyproject_tools(workspace, folder) for folder in quality_tools.folders(workspace))
    black: Mapping[str, Any] | None = next((table["black"] for table in tables if "black" in table), None)
    if black is None:
        return None
    options = ["--line-length", str(black.get("line-length", 88))]
    if black.get("skip-string-normalization"):
        options += ["--config", "format.quote-style = 'preserve'"]
    if black.get("skip-magic-trailing-comma"):
        options += ["--config", "format.skip-magic-trailing-comma = true"]
    return options


def _share_changed(workspace: Workspace, files: Sequence[Path], options: Sequence[str]) -> float:
    """The share of lines that formatting would change, 0 to 1."""
    diff = quality_tools.ruff(
        workspace, "format", "--diff", *options, *quality_tools.names(workspace, files)
    ).stdout.splitlines()
    changed = max(sum(line.startswith(sign) and not line.startswith(sign * 3) for line in diff) for sign in "+-")
    tree = ForeignTree(workspace.root)
    lines = sum(tree.read_bytes(file).count(b"\n") for file in files)
    return changed / max(lines, 1)


def _counted(workspace: Workspace, output: str) -> dict[Path, Counter[str]]:
    fixes: dict[Path, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in output.splitlines():
        if file := _FILE.match(line):
            current = fixes.setdefault(workspace.project / file[1], Counter())
        elif fixed := _FIXED.match(line):
            current[fixed[2]] += int(fixed[1])
    return fixes


def _require(completed: Completed) -> Completed:
    """``completed``, unless the tool did not work; files it cannot parse it leaves alone, which is fine."""
    unreadable = completed.returncode == _UNREADABLE and "ruff failed" not in completed.stderr
    if completed.ok or (completed.stopped is None and unreadable):
        return completed
    raise EngineFailed(f"{quality_tools.why_failed(completed)}.")
