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
from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Component
from tta_tasks.protocols import Completed, Sandbox
from workers.environment.declaration import read_declaration
from workers.environment.installer import Installer, decisive
from workers.environment.interpreters import find_interpreter

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
        cache: The host's cache folder; wheels are in ``wheels``, uv's cache is in ``uv``.
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
            wheel = _build(release, tree, component, self.sandbox, self.cache / "uv")
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            shutil.copy(wheel, new)
            new.rename(folder)
            self._prune()
            return folder / wheel.name

    def _folder(self, release: str) -> Path:
        return self.cache / "wheels" / release

    def _prune(self) -> None:
        kept = [path for path in (self.cache / "wheels").iterdir() if path.is_dir() and path.suffix != ".new"]
        for old in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)[MAX_WHEELS:]:
            shutil.rmtree(old, ignore_errors=True)


class _Builder(Installer):
    """uv, building a distribution."""

    def build(self, into: Path, python: Path) -> Completed:
        """``uv build``."""
        return self._uv("build", "--wheel", "--no-create-gitignore", "--out-dir", into, "--python", python)


def _build(release: str, tree: Path, component: Component, sandbox: Sandbox, uv_cache: Path) -> Path:
    project = tree / component.root
    if not read_declaration(project, component).installable:
        (project / "pyproject.toml").write_text(_metadata(project, component, release), encoding="utf-8")
    out = tree.parent / "dist"
    out.mkdir(exist_ok=True)
    uv_cache.mkdir(parents=True, exist_ok=True)
    python, env = find_interpreter(component.requires_python), _surroundings(project, release)
    built = _Builder(sandbox, tree.parent, project, uv_cache, env, python.readable).build(out, python.path)
    wheels = list(out.glob("*.whl"))
    if built.ok and len(wheels) == 1:
        return wheels[0]
    said = f"it took longer than {built.duration_s:.0f} s" if built.stopped else decisive(built.stderr)
    where = "the repository" if component.root == "." else f"{component.root} of the repository"
    raise DeploymentFailed(
        f"The wheel of {component.name!r} does not build: {said}", f"Make `uv build --wheel` work in {where}."
    )


def _surroundings(project: Path, release: str) -> dict[str, str]:
    """What makes builds alike, and stands in for the version control system, which a snapshot has not."""
    version = _published_version(project) or f"0+{release[:12]}"
    return {"SOURCE_DATE_EPOCH": str(EPOCH), "SETUPTOOLS_SCM_PRETEND_VERSION": version, "PBR_VERSION": version}


def _published_version(project: Path) -> str | None:
    """The version that a source distribution says it is."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return HeaderParser().parsestr((project / "PKG-INFO").read_text(encoding="utf-8"))["Version"]
    return None


def _metadata(project: Path, component: Component, release: str) -> str:
    """A ``pyproject.toml`` for plain modules, which nobody thought of as a distribution."""
    prefix = "" if component.import_root == "." else f"{component.import_root}/"
    tops = sorted({module.name.partition(".")[0] for module in component.modules})
    included = [f"{prefix}{top}" if (project / prefix / top).is_dir() else f"{prefix}{top}.py" for top in tops]
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
dependencies = {json.dumps(_requirements(project))}

[tool.hatch.metadata]
allow-direct-references = true

[tool.hatch.build.targets.wheel]
ignore-vcs = true
only-include = {json.dumps(included)}
sources = {json.dumps([component.import_root] if prefix else [])}
"""


def _requirements(project: Path) -> list[str]:
    """What ``requirements.txt`` asks for by name; its options are for pip."""
    found: list[str] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (project / "requirements.txt").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(InvalidRequirement):
                found.append(str(Requirement(line.partition(" #")[0].strip())))
    return found
