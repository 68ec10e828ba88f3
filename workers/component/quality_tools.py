"""The quality tools of this host, run in the sandbox under the configuration a repository brings.

Only files inside the checkout count as configuration: a checkout may well lie below somebody else's project.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Completed, Workspace
from workers.component import parsing

#: Machine-readable reports are read whole.
REPORT_BYTES = 32 << 20
#: Largest file of configuration that is read.
CONFIGURATION_BYTES = 256 << 10
#: Longest text in a ``setup.py`` that is taken for ``python_requires``.
MOST_REQUIRED = 200
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


def run(
    workspace: Workspace, argv: Sequence[str | Path], env: Mapping[str, str] | None = None, *, changes: bool = True
) -> Completed:
    """Run a tool in the project folder, in the sandbox.

    Args:
        workspace: Where.
        argv: The tool and its arguments.
        env: Added to its environment.
        changes: Whether it may write to the tree, and not to the scratch folder alone.
    """
    return workspace.sandbox.run(
        argv,
        cwd=workspace.project,
        writable=[workspace.root, workspace.scratch] if changes else [workspace.scratch],
        readable=[*workspace.readable, workspace.root],
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
    tree = ForeignTree(workspace.root)
    return sorted(
        {file for module in workspace.component.modules if tree.is_file(file := workspace.project / module.path)}
    )


def names(workspace: Workspace, files: Iterable[Path]) -> list[str]:
    """The files as a tool is told of them: relative to the project folder, and never like an option."""
    relative = (os.path.relpath(file, workspace.project) for file in files)
    return [f"./{name}" if name.startswith("-") else name for name in relative]


def ruff_configured(workspace: Workspace) -> bool:
    """Whether ruff finds configuration of the repository for the component."""
    return any(
        has_file(workspace, folder / ".ruff.toml")
        or has_file(workspace, folder / "ruff.toml")
        or "ruff" in pyproject_tools(workspace, folder)
        for folder in folders(workspace)
    )


def folders(workspace: Workspace) -> Iterator[Path]:
    """Where configuration of the component may be: from the project folder up to the root of the checkout."""
    yield workspace.project
    for parent in workspace.project.parents:
        if parent != workspace.root and workspace.root not in parent.parents:
            break
        yield parent


def has_file(workspace: Workspace, file: Path) -> bool:
    """Whether ``file`` is a regular file in the tree."""
    return ForeignTree(workspace.root).is_file(file)


def pyproject_tools(workspace: Workspace, folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The ``[tool]`` tables of the folder's ``pyproject.toml``; empty where there is none that can be read."""
    tools = tables(workspace, folder / "pyproject.toml").get("tool")
    return {name: table for name, table in tools.items() if isinstance(table, dict)} if isinstance(tools, dict) else {}


def tables(workspace: Workspace, file: Path) -> Mapping[str, Any]:
    """A TOML file's content; empty where there is none that can be read."""
    try:
        return parsing.toml(_text(workspace, file))
    except ValueError:
        return {}


def names_hook(workspace: Workspace, folder: Path, *hooks: str) -> bool:
    """Whether the folder's pre-commit configuration names one of ``hooks``."""
    text = _text(workspace, folder / ".pre-commit-config.yaml")
    return any(f"id: {hook}\n" in text + "\n" for hook in hooks)


def has_section(workspace: Workspace, file: Path, section: str) -> bool:
    """Whether an INI file has ``[section]``."""
    return re.search(rf"^\[{re.escape(section)}\]", _text(workspace, file), re.MULTILINE) is not None


def _text(workspace: Workspace, file: Path) -> str:
    """A file of configuration; empty where there is none that can be read."""
    try:
        return ForeignTree(workspace.root).read_text(file, max_bytes=CONFIGURATION_BYTES)
    except (OSError, UnicodeDecodeError):
        return ""


def minimal_python(workspace: Workspace) -> tuple[int, int] | None:
    """The oldest Python the component says it runs on; ``None`` when that is Python 2."""
    try:
        wanted = SpecifierSet(workspace.component.requires_python or _of_setup(workspace))
    except InvalidSpecifier:
        return ASSUMED_PYTHON
    if not str(wanted):
        return ASSUMED_PYTHON
    if wanted.contains("2.7.18"):
        return None
    minors = (minor for minor in range(NEWEST_MINOR + 1) if _admits(wanted, minor))
    return (3, next(minors, ASSUMED_PYTHON[1]))


def _of_setup(workspace: Workspace) -> str:
    """``python_requires`` of a ``setup.py``, where it is written out there."""
    try:
        tree = parsing.python(_text(workspace, workspace.project / "setup.py"))
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="python_requires", value=ast.Constant(value=str(said))):
                return said[:MOST_REQUIRED]
    return ""


def _admits(wanted: SpecifierSet, minor: int) -> bool:
    return any(wanted.contains(f"3.{minor}.{micro}") for micro in range(100))
