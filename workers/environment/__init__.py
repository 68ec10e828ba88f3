"""The component's own environment: its dependencies and what tests need, never the worker's own."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tta_tasks.models import Component
from tta_tasks.protocols import Sandbox
from workers.environment.declaration import Declaration, read_declaration
from workers.environment.installer import Installer, decisive
from workers.environment.interpreters import Interpreter, find_interpreter

__all__ = ["Environment", "prepare_environment"]

#: What we need beside the component's dependencies.
TOOLS = ("pytest", "coverage>=7.10", "hypothesis")
#: Part of every key: change it when an environment would be made differently.
FORMAT = 1


@dataclass(frozen=True)
class Environment:
    """A virtual environment that is ready to use."""

    #: Its interpreter.
    python: Path
    #: ``3.11.7``
    python_version: str
    #: Changes with anything that could change the environment.
    key: str
    #: Whether it was there already.
    cached: bool


def prepare_environment(
    project: Path, component: Component, *, sandbox: Sandbox, cache: Path, progress: Callable[[str], None]
) -> Environment:
    """Make the environment of ``component``, or find the one made earlier.

    Args:
        project: The component's project folder, in its tree; only read.
        component: Says which Python, extras and dependency groups.
        sandbox: Where everything runs that the component's build brings along.
        cache: The host's cache folder; environments are in ``environments``, uv's cache is in ``uv``.
        progress: Told what is being done, and what is left out.

    Raises:
        EnvironmentFailed: The dependencies do not install, or there is no such Python.
    """
    interpreter = find_interpreter(component.requires_python)
    declaration = read_declaration(project, component)
    key = _key(interpreter, declaration)
    home = cache / "environments" / key
    home.parent.mkdir(parents=True, exist_ok=True)
    ready = home.with_suffix(".json")
    with FileLock(home.with_suffix(".lock")):
        cached = ready.is_file()
        if not cached:
            warnings = _build(home, project, component, declaration, interpreter, sandbox, cache / "uv", progress)
            _write(ready, {"python": interpreter.version, "warnings": warnings})
        os.utime(ready)  # how recently it was used
    for warning in json.loads(ready.read_text())["warnings"]:
        progress(warning)
    return Environment(home / "venv" / "bin" / "python", interpreter.version, key, cached)


def _key(interpreter: Interpreter, declaration: Declaration) -> str:
    parts = [FORMAT, TOOLS, str(interpreter.path), interpreter.version, platform.machine(), declaration.fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _write(path: Path, content: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)


def _build(
    home: Path,
    project: Path,
    component: Component,
    declaration: Declaration,
    interpreter: Interpreter,
    sandbox: Sandbox,
    uv_cache: Path,
    progress: Callable[[str], None],
) -> list[str]:
    """Build the environment from nothing; answer what had to be left out."""
    shutil.rmtree(home, ignore_errors=True)  # an interrupted build
    home.mkdir()
    uv_cache.mkdir(parents=True, exist_ok=True)
    root = project.parents[len(Path(component.root).parts) - 1] if Path(component.root).parts else project
    # Builds write into the tree they build, and may need what lies beside the project.
    shutil.copytree(root, home / "source", symlinks=True, ignore_dangling_symlinks=True)
    installer = Installer(sandbox, home, home / "source" / component.root, uv_cache)
    progress(f"installing dependencies for Python {interpreter.version}")
    installer.create(interpreter.path)
    warnings = _install(installer, declaration)
    shutil.rmtree(home / "source")
    return warnings


def _install(installer: Installer, declaration: Declaration) -> list[str]:
    base = (*TOOLS, *declaration.required)
    everything = (*base, *(word for words in declaration.optional for word in words))
    if declaration.optional and installer.install(*everything).ok:
        return []
    installer.require(installer.install(*base))
    warnings, chosen = [], base
    for words in declaration.optional:
        done = installer.install(*chosen, *words)
        if done.ok:
            chosen = (*chosen, *words)
        else:
            warnings.append(f"left out {words[-1]}: {decisive(done.stderr)}")
    return warnings
