"""What a project says of its dependencies, and a fingerprint of it."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.models import Component

#: Tables of ``[tool]`` that say how a project is built or what it needs.
BUILD_TOOLS = (
    "uv", "poetry", "pdm", "hatch", "flit", "setuptools", "setuptools_scm", "maturin", "scikit-build", "meson-python",
    "mypyc", "cython", "cffi",
)  # fmt: skip
#: Files, relative to the project, that say how it is built or what it needs.
DECLARATIONS = (
    "setup.py", "setup.cfg", "requirements*.txt", "*-requirements.txt", "*_requirements.txt", "constraints*.txt",
    "requirements/*.txt", "MANIFEST.in", "meson.build", "CMakeLists.txt", "Cargo.toml",
)  # fmt: skip
#: Suffixes of sources that become extension modules.
COMPILED = {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".rs", ".f90"}
TEST_WORDS = ("test", "tests", "testing", "dev")
#: Folders never looked into for sources.
IGNORED = {".git", ".venv", "venv", "node_modules", "build", "dist", "__pycache__", ".tox", ".nox"}


@dataclass(frozen=True)
class Declaration:
    """The dependencies of a project, as arguments of ``uv pip install``, relative to the project."""

    #: What must install.
    required: tuple[str, ...]
    #: What is left out, with a warning, when it does not install.
    optional: tuple[tuple[str, ...], ...]
    #: Whether the project can be installed itself.
    installable: bool
    #: Changes with anything that could change the environment.
    fingerprint: str


def read_declaration(project: Path, component: Component) -> Declaration:
    """Read what ``project`` declares.

    Raises:
        EnvironmentFailed: Its ``pyproject.toml`` does not parse.
    """
    pyproject = _pyproject(project)
    metadata = "project" in pyproject or "poetry" in pyproject.get("tool", {})
    setup = next((name for name in ("setup.py", "setup.cfg") if _declares(project / name)), None)
    if metadata:
        required = ["-r", "pyproject.toml"]
    elif setup:
        required = ["-r", setup]
    else:
        required = ["-r", "requirements.txt"] if (project / "requirements.txt").is_file() else []
    optional: list[tuple[str, ...]] = [
        ("-r", "pyproject.toml", "--extra", extra) for extra in component.extras if metadata
    ]
    optional += [("--group", f"pyproject.toml:{group}") for group in component.groups]
    optional += [("-r", name) for name in _test_requirements(project)]
    return Declaration(
        required=tuple(required),
        optional=tuple(optional),
        installable=metadata or setup is not None,
        fingerprint=_fingerprint(project, component, pyproject),
    )


def _pyproject(project: Path) -> dict[str, Any]:
    path = project / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFailed(f"pyproject.toml is not TOML: {error}.", "Correct it there.") from error


def _declares(path: Path) -> bool:
    """Whether a setup file declares a distribution; ``setup.cfg`` often configures tools alone."""
    return path.is_file() and (path.name == "setup.py" or "[metadata]" in path.read_text(errors="replace"))


def _test_requirements(project: Path) -> list[str]:
    patterns = ("requirements-{}.txt", "requirements_{}.txt", "{}-requirements.txt", "requirements/{}.txt")
    names = (pattern.format(word) for word in TEST_WORDS for pattern in patterns)
    return [name for name in names if (project / name).is_file()]


def _fingerprint(project: Path, component: Component, pyproject: dict[str, Any]) -> str:
    tools = pyproject.get("tool", {})
    relevant = {name: table for name, table in pyproject.items() if name != "tool"}
    relevant["tool"] = {name: tools[name] for name in BUILD_TOOLS if name in tools}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode())
    digest.update(json.dumps([component.import_root, component.extras, component.groups]).encode())
    declarations = {path for pattern in DECLARATIONS for path in project.glob(pattern)}
    compiled = {path for path in _files(project) if path.suffix in COMPILED}
    neighbours = {path for folder in _neighbours(project, tools) for path in _files(folder)}
    for path in sorted(path for path in declarations | compiled | neighbours if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{os.path.relpath(path, project)}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _neighbours(project: Path, tools: Mapping[str, Any]) -> list[Path]:
    """Projects of the same repository that this one depends on."""
    sources = tools.get("uv", {}).get("sources", {}).values()
    return [project / source["path"] for source in sources if isinstance(source, dict) and "path" in source]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED]
        yield from (Path(parent, name) for name in names)
