"""The quality tools of this host, run in the sandbox under the configuration a repository brings.

Only files inside the checkout count as configuration: a checkout may well lie below somebody else's project.
"""

from __future__ import annotations

import ast
import configparser
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from tta_tasks.protocols import Completed, Workspace

#: Machine-readable reports are read whole.
REPORT_BYTES = 32 << 20
#: The lowest Python 3 taken for granted where a project does not say what it needs.
ASSUMED_PYTHON = (3, 9)
NEWEST_MINOR = 15


def ruff(workspace: Workspace, command: str, *args: str | Path) -> Completed:
    """Run ``ruff COMMAND``; as a repository that has no configuration of its own sees it, unless it has one."""
    own = ["--force-exclude"] if ruff_configured(workspace) else ["--isolated"]
    return python_tool(workspace, "ruff", command, "--no-cache", *own, *args)


def python_tool(workspace: Workspace, module: str, *args: str | Path) -> Completed:
    """Run a tool that is installed with us."""
    return run(workspace, [*isolated(module), *args])


def isolated(module: str, python: Path | None = None) -> list[str | Path]:
    """A tool as a command of our own interpreter, or another; it does not look for modules in the checkout."""
    return [python or sys.executable, "-I", "-m", module]


def run(workspace: Workspace, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Completed:
    """Run a tool in the project folder, in the sandbox."""
    return workspace.sandbox.run(
        argv,
        cwd=workspace.project,
        writable=[workspace.root, workspace.scratch],
        readable=workspace.readable,
        env={"NO_COLOR": "1", "PYTHONUTF8": "1", **(env or {})},
        limits=replace(workspace.limits, output_bytes=REPORT_BYTES),
        cancelled=workspace.cancelled,
    )


def why_failed(completed: Completed) -> str:
    """One line on a tool of ours that did not do its work."""
    tool = completed.argv[completed.argv.index("-m") + 1]
    if completed.stopped is not None:
        return f"{tool} ran out of time" if completed.stopped == "time" else f"{tool} was cancelled"
    said = [line.strip() for line in (completed.stderr or completed.stdout).splitlines() if line.strip()]
    return f"{tool} ended with status {completed.returncode}" + (f": {' '.join(said[-5:])[-500:]}" if said else "")


def source_files(workspace: Workspace) -> list[Path]:
    """The component's modules, as regular files inside the checkout."""
    files = (workspace.project / module.path for module in workspace.component.modules)
    return sorted({file for file in files if file.is_file() and not file.is_symlink()})


def names(workspace: Workspace, files: Iterable[Path]) -> list[str]:
    """The files as a tool is told of them: relative to the project folder."""
    return [os.path.relpath(file, workspace.project) for file in files]


def ruff_configured(workspace: Workspace) -> bool:
    """Whether ruff finds configuration of the repository for the component."""
    return any(
        (folder / ".ruff.toml").is_file() or (folder / "ruff.toml").is_file() or "ruff" in pyproject_tools(folder)
        for folder in folders(workspace)
    )


def folders(workspace: Workspace) -> Iterator[Path]:
    """Where configuration of the component may be: from the project folder up to the root of the checkout."""
    yield workspace.project
    for parent in workspace.project.parents:
        if parent != workspace.root and workspace.root not in parent.parents:
            break
        yield parent


def pyproject_tools(folder: Path) -> Mapping[str, Any]:
    """The ``[tool]`` tables of the folder's ``pyproject.toml``; empty where there is none that can be read."""
    tools = tables(folder / "pyproject.toml").get("tool")
    return tools if isinstance(tools, dict) else {}


def tables(file: Path) -> Mapping[str, Any]:
    """A TOML file's content; empty where there is none that can be read."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def names_hook(folder: Path, *hooks: str) -> bool:
    """Whether the folder's pre-commit configuration names one of ``hooks``."""
    try:
        text = (folder / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return any(f"id: {hook}\n" in text + "\n" for hook in hooks)


def has_section(file: Path, section: str) -> bool:
    """Whether an INI file has ``[section]``."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, ValueError):
        return False
    return parser.has_section(section)


def minimal_python(workspace: Workspace) -> tuple[int, int] | None:
    """The oldest Python the component says it runs on; ``None`` when that is Python 2."""
    try:
        wanted = SpecifierSet(workspace.component.requires_python or _of_setup(workspace.project / "setup.py"))
    except InvalidSpecifier:
        return ASSUMED_PYTHON
    if not str(wanted):
        return ASSUMED_PYTHON
    if wanted.contains("2.7.18"):
        return None
    minors = (minor for minor in range(NEWEST_MINOR + 1) if _admits(wanted, minor))
    return (3, next(minors, ASSUMED_PYTHON[1]))


def _of_setup(file: Path) -> str:
    """``python_requires`` of a ``setup.py``, where it is written out there."""
    try:
        calls = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.keyword)]
    except (OSError, SyntaxError, ValueError):
        return ""
    said = [
        call.value.value for call in calls if call.arg == "python_requires" and isinstance(call.value, ast.Constant)
    ]
    return str(said[0]) if said else ""


def _admits(wanted: SpecifierSet, minor: int) -> bool:
    return any(wanted.contains(f"3.{minor}.{micro}") for micro in range(100))
