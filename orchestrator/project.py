"""What a project folder says of itself: ``pyproject.toml``, with ``setup.cfg`` for older ones."""

from __future__ import annotations

import configparser
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from tta_tasks.errors import ComponentError
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Gates, Model, Percent, RelativePath

#: What makes a folder a project of its own.
MARKERS = ("pyproject.toml", "setup.cfg", "setup.py")
_MAX_BYTES = 1 << 20

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Number = Annotated[Percent, Field(strict=True)]


class GateOverrides(Gates):
    """Gates a component sets for itself. Only fields that are set count; the others stay as the target has them."""

    model_config = ConfigDict(extra="forbid")


class GatesTable(GateOverrides):
    """``[tool.tta.gates]``: for all targets, and ``[tool.tta.gates.production]`` for one."""

    dev: GateOverrides = GateOverrides()
    staging: GateOverrides = GateOverrides()
    production: GateOverrides = GateOverrides()


class ModulesTable(Model):
    """``[tool.tta.modules]``: patterns (``fnmatch``) of dotted module names."""

    include: tuple[_Text, ...] = ()
    exclude: tuple[_Text, ...] = ()


class ComponentTable(Model):
    """``[tool.tta]`` of a component's ``pyproject.toml``."""

    #: Its name, instead of the project's.
    component: _Text | None = None
    #: The package, module or source folder, relative to the project folder.
    source: RelativePath | None = None
    #: The tests' folder, relative to the project folder.
    tests: RelativePath | None = None
    modules: ModulesTable = ModulesTable()
    #: Coverage to reach for every target.
    coverage: _Number | None = None
    #: Extras and dependency groups its tests need; unset: those named after tests, else ``dev``.
    extras: tuple[_Text, ...] | None = None
    groups: tuple[_Text, ...] | None = None
    gates: GatesTable = GatesTable()


@dataclass(frozen=True)
class Project:
    """A project folder in a repository."""

    repository: Path
    #: Relative to the repository, POSIX; ``.`` for the repository itself.
    root: str
    #: The distribution's name, where it says.
    name: str | None
    requires_python: str | None
    #: Extras, dependency groups and test folders it declares.
    extras: tuple[str, ...]
    groups: tuple[str, ...]
    test_paths: tuple[str, ...]
    table: ComponentTable

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.repository / self.root

    @property
    def declared(self) -> bool:
        """Whether it is a project by its own word, not just a folder."""
        return is_project(self.folder)


def is_project(folder: Path) -> bool:
    """Whether ``folder`` is a project by its own word."""
    return any((folder / marker).is_file() for marker in MARKERS)


def read_project(repository: Path, root: str = ".") -> Project:
    """Read what the project in ``repository / root`` says of itself.

    Raises:
        ComponentError: Its ``pyproject.toml`` does not parse, or ``[tool.tta]`` does not hold.
    """
    folder = repository / root
    data = _read_toml(folder / "pyproject.toml", repository)
    legacy = _read_setup_cfg(folder / "setup.cfg", repository)
    project, tool = _table(data, "project"), _table(data, "tool")
    pytest = _table(_table(tool, "pytest"), "ini_options") or _table(tool, "pytest")
    return Project(
        repository=repository,
        root=root,
        name=_text(project.get("name")) or _text(_table(tool, "poetry").get("name")) or legacy.get("name"),
        requires_python=_text(project.get("requires-python")) or legacy.get("python_requires"),
        extras=tuple(_table(project, "optional-dependencies")),
        groups=tuple(_table(data, "dependency-groups")),
        test_paths=_texts(pytest.get("testpaths")),
        table=_component_table(tool.get("tta"), folder / "pyproject.toml"),
    )


def _content(path: Path, repository: Path) -> str:
    """The text of a file of the repository; links in it lead to other files of it, and are not waited for.

    Raises:
        OSError: It cannot be read, leads out of the repository, is no regular file, or too large.
        UnicodeDecodeError: It is not UTF-8.
    """
    root = Path(os.path.realpath(repository))
    return ForeignTree(root).read_text(os.path.realpath(path), max_bytes=_MAX_BYTES)


def _read_toml(path: Path, repository: Path) -> Mapping[str, Any]:
    if not os.path.lexists(path):
        return {}
    try:
        return tomllib.loads(_content(path, repository))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ComponentError(f"{str(path)!r} is not TOML: {error}.", "Correct it there.") from error
    except OSError as error:
        raise ComponentError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def _read_setup_cfg(path: Path, repository: Path) -> Mapping[str, str]:
    """The two facts of interest; a ``setup.cfg`` that does not parse says nothing."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(_content(path, repository))
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}
    facts = {
        "name": parser.get("metadata", "name", fallback=""),
        "python_requires": parser.get("options", "python_requires", fallback=""),
    }
    return {key: value for key, value in facts.items() if value}


def _component_table(data: object, path: Path) -> ComponentTable:
    if data is None:
        return ComponentTable()
    try:
        return ComponentTable.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["tool.tta", *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            raise ComponentError(
                f"{str(path)!r} sets {where}, which means nothing here.", _known_keys(first["loc"])
            ) from error
        raise ComponentError(
            f"{str(path)!r} sets {where} to {first['input']!r:.60}: {first['msg']}.", "Correct it there."
        ) from error


def _known_keys(loc: tuple[int | str, ...]) -> str:
    model: type[Model] = ComponentTable
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        assert isinstance(annotation, type)  # noqa: S101 - only tables, which are models, hold unknown keys
        model = annotation
    near = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return f"{guess}Known there: {', '.join(model.model_fields)}."


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
