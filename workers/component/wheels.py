"""Builds a component's wheel from a collected tree, in the sandbox, once for each tree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement

from tta_tasks import tracing
from tta_tasks.errors import DeploymentFailed, EnvironmentFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component
from tta_tasks.protocols import Sandbox
from workers.environment.declaration import folder_of, read_declaration
from workers.environment.interpreters import find_interpreter
from workers.environment.wheel import Wheel
from workers.environment.workshop import Project, workshop

#: The date of every file in a wheel, where the build backend takes one: the first that a ZIP archive can tell.
EPOCH = 315532800
#: Wheels kept; those built longest ago go first.
MAX_WHEELS = 50


def release_digest(tree: str, component: Component) -> str:
    """Name a release by its content: the same tree and project folder are the same release."""
    return hashlib.sha256(f"{tree}\0{component.root}".encode()).hexdigest()


@dataclass(frozen=True)
class Wheels:
    """This host's wheels, by release.

    Attributes:
        cache: The host's cache folder; wheels are in ``wheels``.
    """

    cache: Path
    sandbox: Sandbox

    def find(self, release: str) -> Path | None:
        """The wheel of a release that was built here before."""
        return next(self._folder(release).glob("*.whl"), None)

    @tracing.step("build")
    def build(self, release: str, tree: Path, component: Component, progress: Callable[[str], None]) -> Path:
        """Build the wheel of a release, and keep it.

        Args:
            release: Its digest.
            tree: A throwaway checkout, which the build may write to.
            component: What to build.
            progress: Told what is being done.

        Raises:
            DeploymentFailed: It does not build.
            EnvironmentFailed: This host has no Python that it needs.
        """
        folder = self._folder(release)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if known := self.find(release):
                return known
            progress(f"building the wheel of {component.name}")
            wheel = _build(release, tree, component, self.sandbox, self.cache)
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            (new / wheel.filename).write_bytes(wheel.content)
            new.rename(folder)
            self._prune()
            return folder / wheel.filename

    def _folder(self, release: str) -> Path:
        return self.cache / "wheels" / release

    def _prune(self) -> None:
        kept = [path for path in (self.cache / "wheels").iterdir() if path.is_dir() and path.suffix != ".new"]
        for old in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)[MAX_WHEELS:]:
            shutil.rmtree(old, ignore_errors=True)


def _build(release: str, tree: Path, component: Component, sandbox: Sandbox, cache: Path) -> Wheel:
    folder, checkout = folder_of(component), ForeignTree(tree)
    if not read_declaration(tree / folder, component).installable:
        checkout.write_text(_in(folder, "pyproject.toml"), _metadata(checkout, component, release))
    interpreter = find_interpreter(component.requires_python)
    try:
        with workshop(cache, sandbox, interpreter) as shop:
            return shop.build(Project(tree, folder), env=_surroundings(checkout, folder, release))
    except EnvironmentFailed as error:
        where = f"{folder} of the repository" if folder else "the repository"
        raise DeploymentFailed(
            f"The wheel of {component.name!r} does not build: {error.message}",
            f"Make `uv build --wheel` work in {where}.",
        ) from error


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _surroundings(tree: ForeignTree, folder: str, release: str) -> dict[str, str]:
    """What makes builds alike, and stands in for the version control system, which a snapshot has not."""
    version = _published_version(tree, folder) or f"0+{release[:12]}"
    return {"SOURCE_DATE_EPOCH": str(EPOCH), "SETUPTOOLS_SCM_PRETEND_VERSION": version, "PBR_VERSION": version}


def _published_version(tree: ForeignTree, folder: str) -> str | None:
    """The version that a source distribution says it is."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return HeaderParser().parsestr(tree.read_text(_in(folder, "PKG-INFO")))["Version"]
    return None


def _metadata(tree: ForeignTree, component: Component, release: str) -> str:
    """A ``pyproject.toml`` for plain modules, which nobody thought of as a distribution."""
    folder = folder_of(component)
    prefix = "" if component.import_root == "." else f"{component.import_root}/"
    tops = sorted({module.name.partition(".")[0] for module in component.modules})
    included = [f"{prefix}{top}" if tree.is_folder(_in(folder, prefix + top)) else f"{prefix}{top}.py" for top in tops]
    name = component.name.rstrip("._-")
    # A JSON string or array of strings is one in TOML, too.
    return f"""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = {json.dumps(name)}
version = "0+{release[:12]}"
requires-python = {json.dumps(component.requires_python or ">=3")}
dependencies = {json.dumps(_requirements(tree, folder))}

[tool.hatch.metadata]
allow-direct-references = true

[tool.hatch.build.targets.wheel]
ignore-vcs = true
only-include = {json.dumps(included)}
sources = {json.dumps([component.import_root] if prefix else [])}
"""


def _requirements(tree: ForeignTree, folder: str) -> list[str]:
    """What ``requirements.txt`` asks for by name; its options are for pip."""
    found: list[str] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in tree.read_text(_in(folder, "requirements.txt")).splitlines():
            with contextlib.suppress(InvalidRequirement):
                found.append(str(Requirement(line.partition(" #")[0].strip())))
    return found
