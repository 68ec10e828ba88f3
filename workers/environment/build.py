"""Builds one environment from nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.models import Component
from tta_tasks.protocols import Sandbox
from workers.environment.declaration import Declaration
from workers.environment.installer import Installer, decisive
from workers.environment.interpreters import Interpreter

#: What we need beside the component's dependencies.
TOOLS = ("pytest", "coverage>=7.10", "hypothesis")
KEEP_BUILT = Path(__file__).with_name("keep_built.py")
#: Snapshots have no history to read a version from: this is how the usual build tools are told one.
VERSIONED = dict.fromkeys(
    (
        "SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "PBR_VERSION", "POETRY_DYNAMIC_VERSIONING_BYPASS",
        "UV_DYNAMIC_VERSIONING_BYPASS",
    ),
    "0.0.0",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What an environment is made from."""

    #: The component's project folder, in its tree.
    project: Path
    component: Component
    declaration: Declaration
    interpreter: Interpreter


def build(
    recipe: Recipe, home: Path, *, sandbox: Sandbox, uv_cache: Path, progress: Callable[[str], None]
) -> list[str]:
    """Build it in ``home``; answer what had to be left out.

    Raises:
        EnvironmentFailed: The dependencies do not install.
    """
    shutil.rmtree(home, ignore_errors=True)  # an interrupted build
    home.mkdir()
    uv_cache.mkdir(parents=True, exist_ok=True)
    # Builds write into the tree they build, and may need what lies beside the project.
    source = home / "source"
    shutil.copytree(_tree(recipe), source, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    project = source / recipe.component.root
    env = {} if (project / "PKG-INFO").is_file() else VERSIONED
    readable = recipe.interpreter.readable
    installer = Installer(sandbox=sandbox, home=home, project=project, cache=uv_cache, env=env, readable=readable)
    progress(f"installing dependencies for Python {recipe.interpreter.version}")
    installer.create(recipe.interpreter.path)
    warnings = _install_dependencies(installer, recipe.declaration)
    if recipe.declaration.installable:
        warnings += _install_project(installer, recipe.component)
    installer.compile()
    shutil.rmtree(source, ignore_errors=True)
    return warnings


def _tree(recipe: Recipe) -> Path:
    depth = len(Path(recipe.component.root).parts)
    return recipe.project.parents[depth - 1] if depth else recipe.project


def _install_dependencies(installer: Installer, declaration: Declaration) -> list[str]:
    """Everything at once where that works, else without the optional parts that do not fit."""
    chosen = (*TOOLS, *declaration.required)
    everything = (*chosen, *(word for words in declaration.optional for word in words))
    whole = installer.install(*everything)
    if not declaration.optional:
        installer.require(whole)
    if whole.ok:
        return []
    installer.require(installer.install(*chosen))
    warnings = []
    for words in declaration.optional:
        done = installer.install(*chosen, *words)
        if done.ok:
            chosen = (*chosen, *words)
        else:
            warnings.append(f"left out {words[-1]}, which does not install: {_in_a_line(done.stderr)}")
    return warnings


def _install_project(installer: Installer, component: Component) -> list[str]:
    """The component's metadata and what is built of it; its modules come from the tree."""
    done = installer.install("--no-deps", ".")
    if done.ok:
        roots = dict.fromkeys((installer.project, installer.project / component.import_root))
        done = installer.run("-I", KEEP_BUILT, installer.project, *roots)
    if done.ok:
        return []
    return [f"{component.name} itself does not build, so its metadata is missing: {_in_a_line(done.stderr)}"]


def _in_a_line(message: str) -> str:
    return " ".join(decisive(message).split())
