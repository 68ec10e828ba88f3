"""What a project says of its dependencies, and a fingerprint of it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import canonicalize_name

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component
from workers.environment.requirements import RequirementReader, Unacceptable, Wanted, in_table

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
#: Where a failure of what is declared can be mended.
HINT = "Correct it there."


@dataclass(frozen=True)
class Optional:
    """What is left out, with a warning, when it does not install."""

    #: For a person.
    label: str
    wanted: tuple[Wanted, ...]
    #: An extra that only the project's build can tell; else empty.
    extra: str = ""
    #: Why it cannot be followed; else empty.
    fault: str = ""


@dataclass(frozen=True)
class Declaration:
    """The dependencies of a project."""

    #: What must install.
    required: tuple[Wanted, ...]
    optional: tuple[Optional, ...]
    #: Whether only the project's build can tell what else must install.
    dynamic: bool
    #: Whether the project can be installed itself.
    installable: bool
    #: Limits, overrides, and whether pre-releases are asked for.
    constraints: tuple[str, ...]
    overrides: tuple[str, ...]
    prerelease: bool
    #: What is not followed, for a person.
    notes: tuple[str, ...]
    #: Changes with anything that could change the environment.
    fingerprint: str


def tree_of(project: Path, component: Component) -> ForeignTree:
    """The whole tree that a component's project folder is in."""
    depth = len(PurePosixPath(component.root).parts)
    return ForeignTree(project.parents[depth - 1] if depth else project)


def folder_of(component: Component) -> str:
    """A component's project folder, relative to its tree; empty for the tree itself."""
    return "" if component.root == "." else PurePosixPath(component.root).as_posix()


def read_declaration(project: Path, component: Component) -> Declaration:
    """Read what ``project`` declares.

    Raises:
        EnvironmentFailed: It cannot be followed.
    """
    reader = RequirementReader(tree_of(project, component))
    folder = folder_of(component)
    try:
        return _read(reader, folder, component)
    except Unacceptable as error:
        raise EnvironmentFailed(f"{error}.", HINT) from error
    except OSError as error:
        raise EnvironmentFailed(f"The component's project cannot be read: {error}.", HINT) from error


def _read(reader: RequirementReader, folder: str, component: Component) -> Declaration:
    pyproject = reader.pyproject(folder)
    table = pyproject.get("project")
    metadata = isinstance(table, dict) or "poetry" in in_table(pyproject, "tool")
    setup = _setup(reader, folder)
    static = _Static(reader, folder, table if isinstance(table, dict) else {})
    dynamic = static.dynamic("dependencies") if isinstance(table, dict) else metadata or setup
    reader.configure(folder)
    required: list[Wanted] = []
    if isinstance(table, dict) and not dynamic:
        required = static.dependencies()
    elif not metadata and not setup and reader.text(_join(folder, "requirements.txt")) is not None:
        required = reader.file(_join(folder, "requirements.txt"))
    optional = [static.of_extra(extra) for extra in component.extras if metadata]
    optional += [_group(reader, group, folder) for group in component.groups]
    optional += [_file(reader, name, folder) for name in _test_requirements(reader, folder)]
    return Declaration(
        required=tuple(required),
        optional=tuple(optional),
        dynamic=dynamic,
        installable=metadata or setup,
        constraints=tuple(dict.fromkeys(reader.constraints)),
        overrides=tuple(dict.fromkeys(reader.overrides)),
        prerelease=reader.prerelease,
        notes=tuple(reader.notes),
        fingerprint=_fingerprint(reader, folder, component, pyproject),
    )


@dataclass(frozen=True)
class _Static:
    """What ``[project]`` says."""

    reader: RequirementReader
    folder: str
    table: dict[str, Any]

    def dynamic(self, name: str) -> bool:
        """Whether the build backend decides on a field."""
        names = self.table.get("dynamic", [])
        return isinstance(names, list) and name in names

    def dependencies(self) -> list[Wanted]:
        """What the project needs."""
        return self._expanded(self.table.get("dependencies", []), "project.dependencies", set())

    def of_extra(self, name: str) -> Optional:
        """What an extra adds."""
        if not self.table or self.dynamic("optional-dependencies"):
            return Optional(name, (), extra=name)
        try:
            return Optional(name, tuple(self._extra(name, set())))
        except Unacceptable as error:
            return Optional(name, (), fault=str(error))

    def _extra(self, name: str, seen: set[str]) -> list[Wanted]:
        extras = self.table.get("optional-dependencies", {})
        known = {canonicalize_name(each): each for each in extras} if isinstance(extras, dict) else {}
        if canonicalize_name(name) not in known:
            raise Unacceptable(f"there is no extra {name}")
        if name in seen:
            return []
        chosen = extras[known[canonicalize_name(name)]]
        return self._expanded(chosen, f"project.optional-dependencies.{name}", {*seen, name})

    def _expanded(self, words: object, where: str, seen: set[str]) -> list[Wanted]:
        """Requirements, with those of the project's own extras in place of the project."""
        own = canonicalize_name(str(self.table.get("name", "")))
        found: list[Wanted] = []
        for each in self.reader.listed(words, self.folder, where):
            if each.requirement and canonicalize_name(each.requirement.name) == own:
                for extra in sorted(each.requirement.extras):
                    found += self._extra(extra, seen)
            else:
                found.append(each)
        return found


def _setup(reader: RequirementReader, folder: str) -> bool:
    """Whether a setup file declares a distribution; ``setup.cfg`` often configures tools alone."""
    if reader.text(_join(folder, "setup.py")) is not None:
        return True
    return "[metadata]" in (reader.text(_join(folder, "setup.cfg")) or "")


def _group(reader: RequirementReader, group: str, folder: str) -> Optional:
    label = f"pyproject.toml:{group}"
    try:
        return Optional(label, tuple(reader.group(group, folder)))
    except Unacceptable as error:
        return Optional(label, (), fault=str(error))


def _file(reader: RequirementReader, name: str, folder: str) -> Optional:
    try:
        return Optional(name, tuple(reader.file(_join(folder, name))))
    except Unacceptable as error:
        return Optional(name, (), fault=str(error))


def _test_requirements(reader: RequirementReader, folder: str) -> list[str]:
    patterns = ("requirements-{}.txt", "requirements_{}.txt", "{}-requirements.txt", "requirements/{}.txt")
    names = (pattern.format(word) for word in TEST_WORDS for pattern in patterns)
    return [name for name in names if reader.tree.exists(_join(folder, name))]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _fingerprint(reader: RequirementReader, folder: str, component: Component, pyproject: dict[str, Any]) -> str:
    tools = in_table(pyproject, "tool")
    relevant = {name: table for name, table in pyproject.items() if name != "tool"}
    relevant["tool"] = {name: tools[name] for name in BUILD_TOOLS if name in tools}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode())
    digest.update(json.dumps([component.import_root, component.extras, component.groups]).encode())
    files = {path for path in _files(reader.tree, folder) if _declares(path, folder)}
    files |= {path for place in _neighbours(reader, folder) for path in _files(reader.tree, place)}
    own = {_join(folder, "pyproject.toml")}  # of which only a part is relevant
    content = {path: sha for path, sha in reader.read.items() if path not in own}
    content |= {
        path: hashlib.sha256(reader.tree.read_bytes(path, max_bytes=1 << 30)).hexdigest() for path in files - own
    }
    for path in sorted(content):
        digest.update(f"{path}\0{content[path]}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _declares(path: str, folder: str) -> bool:
    """Whether a file says how the project is built, or becomes an extension module."""
    below = path.removeprefix(f"{folder}/") if folder else path
    named = any(
        fnmatch.fnmatchcase(below, pattern) and below.count("/") == pattern.count("/") for pattern in DECLARATIONS
    )
    return named or PurePosixPath(path).suffix in COMPILED


def _neighbours(reader: RequirementReader, folder: str) -> set[str]:
    """Folders of the same repository that the project depends on, and those that they depend on."""
    found: set[str] = set()
    left = [folder]
    while left:
        for source in reader.sources(left.pop()).values():
            if source.kind == "path" and source.location not in {*found, folder}:
                found.add(source.location)
                left.append(source.location)
    return found


def _files(tree: ForeignTree, folder: str) -> Iterator[str]:
    """The regular files below a folder, or the file itself."""
    if folder and tree.is_file(folder):
        yield folder
        return
    for found in tree.files(path=folder or "."):
        below = PurePosixPath(found.path.removeprefix(folder)).parts[:-1]
        if not IGNORED.intersection(below):
            yield found.path
