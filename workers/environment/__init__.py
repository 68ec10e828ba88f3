"""The component's own environment: its dependencies and what tests need, never the worker's own."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tta_tasks import tracing
from tta_tasks.models import Component
from tta_tasks.protocols import Sandbox
from tta_tasks.settings import settings
from workers.environment.build import TOOLS, Recipe, build
from workers.environment.declaration import read_declaration
from workers.environment.interpreters import find_interpreter
from workers.environment.pruning import prune, size

__all__ = ["VirtualEnvironment", "prepare_environment", "prune"]

#: Part of every key: change it when an environment would be made differently.
FORMAT = 3


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment that is ready to use."""

    #: Its interpreter.
    python: Path
    #: ``3.11.7``
    python_version: str
    #: Changes with anything that could change the environment.
    key: str
    #: Whether it was there already.
    cached: bool
    #: What a command must be able to read to use it: its folder, and the installation of the interpreter it was made
    #: from.
    readable: tuple[Path, ...]
    #: What had to be left out, for a person.
    warnings: tuple[str, ...] = ()


@tracing.step("environment")
def prepare_environment(
    project: Path, component: Component, *, sandbox: Sandbox, cache: Path, progress: Callable[[str], None]
) -> VirtualEnvironment:
    """Make the environment of ``component``, or find the one made earlier. Safe to call side by side.

    Args:
        project: The component's project folder, in its tree; only read.
        component: Says which Python, extras and dependency groups. Of the latter, those that do not install are left
            out, with a warning.
        sandbox: Where everything runs that the component's build brings along.
        cache: The host's cache folder; environments are in ``environments``.
        progress: Told what is being done, and what is left out.

    Raises:
        EnvironmentFailed: The dependencies do not install, or there is no such Python.
    """
    interpreter = find_interpreter(component.requires_python)
    recipe = Recipe(project, component, read_declaration(project, component), interpreter)
    key = _key(recipe)
    home = cache / "environments" / key
    home.parent.mkdir(parents=True, exist_ok=True)
    ready = home.with_suffix(".json")  # beside it, where no build can write
    with FileLock(home.with_suffix(".lock")):
        cached = ready.is_file()
        if not cached:
            warnings = build(recipe, home, sandbox=sandbox, cache=cache, progress=progress)
            _write(ready, {"bytes": size(home), "warnings": warnings})
        os.utime(ready)  # how recently it was used
        told = tuple(json.loads(ready.read_text())["warnings"])
    for warning in told:
        progress(warning)
    if not cached:
        prune(cache, settings().cache_bytes)
    readable = (home, *interpreter.readable)
    return VirtualEnvironment(home / "venv" / "bin" / "python", interpreter.version, key, cached, readable, told)


def _key(recipe: Recipe) -> str:
    python = (str(recipe.interpreter.path), recipe.interpreter.version, platform.machine())
    content = json.dumps([FORMAT, TOOLS, python, recipe.declaration.fingerprint])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _write(path: Path, content: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)
