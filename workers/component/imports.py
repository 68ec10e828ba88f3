"""What a Python file imports, read from its source: nothing is run, and what does not parse imports nothing.

Two questions, for two purposes. :func:`import_closure`: which files run when a module is imported, so that its
behaviour depends on them. :func:`importers`: which tests are about given modules, so that their coverage depends on
them; there, importing a name from a package leads to the module the package has it from, not to all it imports.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Larger files are data, and their syntax trees would fill the memory.
MAX_SOURCE_BYTES = 4 << 20
#: Functions that import what their first argument names.
_IMPORTING_CALLS = frozenset({"import_module", "__import__", "importorskip"})


@dataclass(frozen=True)
class _Import:
    """One imported thing: ``import module`` or, with a name, ``from module import name``."""

    module: tuple[str, ...]
    #: Dots before it: folders up from the file's own, less one; 0 is absolute.
    level: int = 0
    name: str | None = None
    #: What it is called afterwards.
    bound: str = ""


def import_closure(module_file: Path, import_root: Path) -> set[Path]:
    """The files below ``import_root`` that run when ``module_file`` is imported: itself, and all it imports in turn.

    Args:
        module_file: A module's file.
        import_root: What would be on ``sys.path``.
    """
    located = cache(_located)
    seen: set[Path] = set()
    pending = [module_file, *_packages(module_file, import_root)]
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        for imported in _imports(file):
            for base in _bases(file, imported, [import_root]):
                for parts in (imported.module, (*imported.module, imported.name or "*")):
                    # Those that run for a.b.c: a, a.b and a.b.c.
                    chain = (located(base, parts[:depth]) for depth in range(min(1, len(parts)), len(parts) + 1))
                    pending += [file for file in chain if file is not None]
    return {file for file in seen if file.is_relative_to(import_root)} | {module_file}


def importers(tests: Path, modules: Collection[Path], import_root: Path) -> set[Path]:
    """The files below ``tests`` that decide how ``modules`` are tested.

    Those are the files that import one of them, directly, through a package's re-export, or through other files in
    ``tests``; those below a ``conftest.py`` that does; what all of these import from ``tests``; and their conftests.

    Args:
        tests: The tests' folder; it need not exist.
        modules: The modules' files; like the two folders absolute, or all relative to the same one.
        import_root: What would be on ``sys.path``.
    """
    files = {path for path in tests.rglob("*.py") if path.is_file()}
    origins = _Origins((import_root, tests, tests.parent))
    targets = {file: origins.of(file, file.parent) for file in files}
    about = {file for file, found in targets.items() if not found.isdisjoint(modules)}
    while more := {file for file in files - about if targets[file] & about or _conftests(file, tests) & about}:
        about |= more
    while more := {file for one in about for file in (targets[one] | _conftests(one, tests)) & files} - about:
        about |= more
    return about


# -- reading ----------------------------------------------------------------------------------------------------------


def _imports(file: Path) -> tuple[_Import, ...]:
    try:
        if file.stat().st_size > MAX_SOURCE_BYTES:
            return ()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about somebody else's code
            tree = ast.parse(file.read_bytes())
            return tuple(found for node in ast.walk(tree) for found in _of_node(node))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def _of_node(node: ast.AST) -> Iterator[_Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield _Import(tuple(alias.name.split(".")), bound=alias.asname or alias.name)
        case ast.ImportFrom(module=module, names=names, level=level):
            parts = tuple(module.split(".")) if module else ()
            for alias in names:
                yield _Import(parts, level, alias.name, alias.asname or alias.name)
        case ast.Call(
            func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]
        ) if called in _IMPORTING_CALLS and not name.startswith("."):
            yield _Import(tuple(name.split(".")), bound=name)


# -- finding ----------------------------------------------------------------------------------------------------------


def _bases(file: Path, imported: _Import, roots: Sequence[Path]) -> list[Path]:
    """The folders the import starts from."""
    if not imported.level:
        return list(roots)
    folders = list(file.parents)
    return folders[imported.level - 1 : imported.level]


def _located(base: Path, parts: Sequence[str]) -> Path | None:
    """The file of a module or package; a package wins, as in Python. A package without ``__init__`` has none."""
    if not all(part.isidentifier() for part in parts):
        return None
    place = base.joinpath(*parts)
    files = (place / "__init__.py", place.with_suffix(".py")) if parts else (place / "__init__.py",)
    return next((file for file in files if file.is_file()), None)


def _packages(file: Path, import_root: Path) -> Iterator[Path]:
    """The ``__init__`` files of the packages that ``file`` is in."""
    for folder in file.parents:
        if folder == import_root or not folder.is_relative_to(import_root):
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


def _conftests(file: Path, tests: Path) -> set[Path]:
    """The conftests that pytest loads for a test file, itself not among them."""
    folders = [folder for folder in file.parents if folder.is_relative_to(tests)]
    return {folder / "conftest.py" for folder in folders} - {file}


class _Origins:
    """Where imported things come from, followed through packages that only pass them on.

    Args:
        roots: What would be on ``sys.path``.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = tuple(dict.fromkeys(roots))
        self._imports = cache(_imports)
        self._located = cache(_located)
        self._known: dict[tuple[Path, str | None], set[Path]] = {}

    def of(self, file: Path, *beside: Path) -> set[Path]:
        """The files that ``file`` imports from; ``beside`` are roots for it alone."""
        roots = (*self._roots, *beside)
        return set[Path]().union(*(self._origin(file, imported, roots) for imported in self._imports(file)))

    def _origin(self, file: Path, imported: _Import, roots: tuple[Path, ...]) -> set[Path]:
        found: set[Path] = set()
        for base in _bases(file, imported, roots):
            module = self._located(base, imported.module)
            submodule = self._located(base, (*imported.module, imported.name)) if imported.name else None
            if submodule is not None:
                found |= {submodule} | self._passed_on(submodule, None)
            elif module is not None:
                found |= {module} | self._passed_on(module, None if imported.name == "*" else imported.name)
        return found

    def _passed_on(self, package: Path, name: str | None) -> set[Path]:
        """Where a package has ``name`` from; without a name, all it passes on."""
        if package.name != "__init__.py":
            return set()
        if (package, name) not in self._known:
            self._known[package, name] = set()  # packages that import each other end here
            inner = self._imports(package)
            # A name it does not import is its own, or comes by a star.
            chosen = [one for one in inner if name is None or one.bound == name]
            chosen = chosen or [one for one in inner if one.name == "*"]
            for one in chosen:
                self._known[package, name] |= self._origin(package, one, self._roots)
        return self._known[package, name]
