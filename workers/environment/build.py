"""Builds one environment from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.foreign import ForeignTree, discard
from tta_tasks.models import Component
from tta_tasks.protocols import Sandbox
from workers.environment.declaration import Declaration, Optional, folder_of, tree_of
from workers.environment.installer import DEPENDENCIES_FAILED, decisive
from workers.environment.interpreters import Interpreter
from workers.environment.requirements import Wanted
from workers.environment.wheel import Wheel
from workers.environment.workshop import VERSIONED, Lock, Project, Workshop, needs, workshop

#: What we need beside the component's dependencies.
TOOLS = ("pytest", "coverage>=7.10", "hypothesis")
KEEP_BUILT = Path(__file__).with_name("keep_built.py")


@dataclass(frozen=True)
class Recipe:
    """What an environment is made from."""

    #: The component's project folder, in its tree.
    project: Path
    component: Component
    declaration: Declaration
    interpreter: Interpreter


def build(recipe: Recipe, home: Path, *, sandbox: Sandbox, cache: Path, progress: Callable[[str], None]) -> list[str]:
    """Build it in ``home``; answer what had to be left out.

    Raises:
        EnvironmentFailed: The dependencies do not install.
    """
    discard(home)  # an interrupted build
    home.mkdir()
    with workshop(cache, sandbox, recipe.interpreter, progress) as shop:
        return _Build(recipe, shop, home / "venv").run()


class _Build:
    """One build of an environment."""

    def __init__(self, recipe: Recipe, shop: Workshop, venv: Path) -> None:
        self._declaration, self._component, self._shop, self._venv = recipe.declaration, recipe.component, shop, venv
        self._version = recipe.interpreter.version
        # Builds write into the tree they build, and may need what lies beside the project.
        self._tree = shop.copy(tree_of(recipe.project, recipe.component))
        self._warnings = list(recipe.declaration.notes)

    def run(self) -> list[str]:
        wheel = self._own_wheel() if self._declaration.installable else None
        self._shop.progress(f"installing dependencies for Python {self._version}")
        self._shop.make(self._venv, self._choose(wheel))
        if wheel is not None:
            self._install(wheel)
        self._shop.installer.compile(self._venv)
        return self._warnings

    def _own_wheel(self) -> Wheel | None:
        """The component's wheel: for its metadata, and what is built of it."""
        folder = folder_of(self._component)
        project = Project(self._tree, folder)
        released = ForeignTree(self._tree).is_file(f"{folder}/PKG-INFO" if folder else "PKG-INFO")
        try:
            return self._shop.build(project, env={} if released else VERSIONED)
        except EnvironmentFailed as error:
            if self._declaration.dynamic:
                raise EnvironmentFailed(
                    f"The component's dependencies are told by its build, which fails: {error.message}",
                    error.hint or "Correct it in the component's repository.",
                ) from error
            self._warn_metadata(error.message)
            return None

    def _choose(self, wheel: Wheel | None) -> Lock:
        """Everything at once where that works, else without the optional parts that do not fit."""
        required = [*(Wanted(Requirement(tool)) for tool in TOOLS), *self._declaration.required]
        if self._declaration.dynamic and wheel is not None:
            required += needs(wheel, self._shop.interpreter)
        parts = [(each, self._wanted(each, wheel)) for each in self._declaration.optional]
        if all(not each.fault for each, _ in parts):
            try:
                return self._resolve([*required, *(wanted for _, words in parts for wanted in words)])
            except EnvironmentFailed:
                if not parts:
                    raise
        lock = self._resolve(required)
        for part, words in parts:
            why = part.fault
            try:
                if not why:
                    lock = self._resolve([*required, *words])
                    required += words
            except EnvironmentFailed as error:
                why = error.message
            if why:
                self._warnings.append(f"left out {part.label}, which does not install: {_in_a_line(why)}")
        return lock

    def _wanted(self, part: Optional, wheel: Wheel | None) -> Sequence[Wanted]:
        if part.extra and wheel is not None:
            return needs(wheel, self._shop.interpreter, [part.extra])
        return part.wanted

    def _resolve(self, wanted: Sequence[Wanted]) -> Lock:
        declared = self._declaration
        return self._shop.resolve(
            wanted,
            tree=self._tree,
            constraints=declared.constraints,
            overrides=declared.overrides,
            prerelease=declared.prerelease,
        )

    def _install(self, wheel: Wheel) -> None:
        """Install the component's metadata and what is built of it; its modules come from the tree."""
        path = self._shop.folder / wheel.filename
        path.write_bytes(wheel.content)
        done = self._shop.installer.add(self._venv, [path])
        if done.ok:
            project = self._tree / self._component.root
            roots = dict.fromkeys((project, project / self._component.import_root))
            readable = [KEEP_BUILT, self._tree]
            done = self._shop.installer.run(self._venv, "-I", KEEP_BUILT, wheel.name, *roots, readable=readable)
        if not done.ok:
            self._warn_metadata(decisive(done.stderr))

    def _warn_metadata(self, why: str) -> None:
        name = self._component.name
        self._warnings.append(f"{name} itself does not build, so its metadata is missing: {_in_a_line(why)}")


def _in_a_line(message: str) -> str:
    return " ".join(message.removeprefix(DEPENDENCIES_FAILED).split())
