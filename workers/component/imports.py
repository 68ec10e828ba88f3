"""What a Python file imports, read from its source: nothing is run, and what does not parse imports nothing.

Two questions, for two purposes. :func:`import_closure`: which files run when a module is imported, so that its
behaviour depends on them. :func:`importers`: which tests are about given modules, so that their coverage depends on
them; there, importing a name from a package leads to the module the package has it from, not to all it imports.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tta_tasks.foreign import ForeignTree
from workers.component import parsing

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


#: A file, and a name that is imported from it; without a name, all that it passes on.
_Wanted = tuple[Path, str | None]


def import_closure(tree: ForeignTree, module_file: Path, import_root: Path) -> set[Path]:
    """The files below ``import_root`` that run when ``module_file`` is imported: itself, and all it imports in turn.

    Args:
        tree: Where they are; links in it are not followed.
        module_file: A module's file, absolute.
        import_root: What would be on ``sys.path``, absolute.
    """
    files = _Files(tree)
    seen: set[Path] = set()
    pending = [module_file, *_packages(files, module_file, import_root)]
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        for imported in files.imports(file):
            for base in _bases(file, imported, [import_root]):
                for parts in (imported.module, (*imported.module, imported.name or "*")):
                    # Those that run for a.b.c: a, a.b and a.b.c.
                    chain = (files.located(base, parts[:depth]) for depth in range(min(1, len(parts)), len(parts) + 1))
                    pending += [file for file in chain if file is not None]
    return {file for file in seen if file.is_relative_to(import_root)} | {module_file}


def importers(tree: ForeignTree, tests: Path, modules: Collection[Path], import_root: Path) -> set[Path]:
    """The files below ``tests`` that decide how ``modules`` are tested.

    Those are the files that import one of them, directly, through a package's re-export, or through other files in
    ``tests``; those below a ``conftest.py`` that does; what all of these import from ``tests``; and their conftests.

    Args:
        tree: Where they are; links in it are not followed.
        tests: The tests' folder, absolute; it need not exist.
        modules: The modules' files, absolute.
        import_root: What would be on ``sys.path``, absolute.

    Raises:
        OSError: The tests cannot be listed.
    """
    tested = {tree.root / found.path for found in tree.files("*.py", tests)}
    origins = _Origins(_Files(tree), (import_root, tests, tests.parent))
    targets = {file: origins.of(file, file.parent) for file in tested}
    needs = {file: (targets[file] | _conftests(file, tests)) & tested for file in tested}
    users: defaultdict[Path, set[Path]] = defaultdict(set)
    for file, needed in needs.items():
        for other in needed:
            users[other].add(file)
    about = {file for file, found in targets.items() if not found.isdisjoint(modules)}
    return _reached(_reached(about, users), needs)


def _reached(start: Iterable[Path], following: Mapping[Path, Collection[Path]]) -> set[Path]:
    """``start``, what follows from it, and so on."""
    reached: set[Path] = set()
    pending = [*start]
    while pending:
        file = pending.pop()
        if file not in reached:
            reached.add(file)
            pending += following.get(file, ())
    return reached


# -- reading ----------------------------------------------------------------------------------------------------------


class _Files:
    """Python files in a tree, each looked at once."""

    def __init__(self, tree: ForeignTree) -> None:
        self._tree = tree
        self.holds: Callable[[Path], bool] = cache(tree.is_file)
        self.imports: Callable[[Path], tuple[_Import, ...]] = cache(self._imports)
        self.located: Callable[[Path, tuple[str, ...]], Path | None] = cache(self._located)

    def _imports(self, file: Path) -> tuple[_Import, ...]:
        """What a file imports; what cannot be read or does not parse imports nothing."""
        try:
            tree = parsing.python(self._tree.read_bytes(file, max_bytes=parsing.MAX_SOURCE_BYTES))
        except (OSError, SyntaxError):
            return ()
        return tuple(found for node in ast.walk(tree) for found in _of_node(node))

    def _located(self, base: Path, parts: tuple[str, ...]) -> Path | None:
        """The file of a module or package; a package wins, as in Python. A package without ``__init__`` has none."""
        if not all(part.isidentifier() for part in parts):
            return None
        place = base.joinpath(*parts)
        files = (place / "__init__.py", place.with_suffix(".py")) if parts else (place / "__init__.py",)
        return next((file for file in files if self.holds(file)), None)


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


def _packages(files: _Files, file: Path, import_root: Path) -> Iterator[Path]:
    """The ``__init__`` files of the packages that ``file`` is in."""
    for folder in file.parents:
        if folder == import_root or not folder.is_relative_to(import_root):
            return
        if files.holds(folder / "__init__.py"):
            yield folder / "__init__.py"


def _conftests(file: Path, tests: Path) -> set[Path]:
    """The conftests that pytest loads for a test file, itself not among them."""
    folders = [folder for folder in file.parents if folder.is_relative_to(tests)]
    return {folder / "conftest.py" for folder in folders} - {file}


class _Origins:
    """Where imported things come from, followed through packages that only pass them on.

    Args:
        files: What there is.
        roots: What would be on ``sys.path``.
    """

    def __init__(self, files: _Files, roots: tuple[Path, ...]) -> None:
        self._files = files
        self._roots = tuple(dict.fromkeys(roots))
        self._known: dict[_Wanted, set[Path]] = {}

    def of(self, file: Path, *beside: Path) -> set[Path]:
        """The files that ``file`` imports from; ``beside`` are roots for it alone."""
        found: set[Path] = set()
        for wanted in self._origins(file, self._files.imports(file), (*self._roots, *beside)):
            if wanted not in self._known:
                self._known[wanted] = self._passed_on(wanted)
            found |= self._known[wanted]
        return found

    def _origins(self, file: Path, imports: Iterable[_Import], roots: tuple[Path, ...]) -> Iterator[_Wanted]:
        for imported in imports:
            for base in _bases(file, imported, roots):
                module = self._files.located(base, imported.module)
                submodule = self._files.located(base, (*imported.module, imported.name)) if imported.name else None
                if submodule is not None:
                    yield submodule, None
                elif module is not None:
                    yield module, None if imported.name == "*" else imported.name

    def _passed_on(self, wanted: _Wanted) -> set[Path]:
        """The file itself; and, if it is a package, those that the package has the name from, and so on."""
        reached: set[_Wanted] = set()
        pending = [wanted]
        while pending:
            one = file, name = pending.pop()
            if one in reached:
                continue
            reached.add(one)
            if file.name == "__init__.py":
                inner = self._files.imports(file)
                # A name it does not import is its own, or comes by a star.
                chosen = [each for each in inner if name is None or each.bound == name]
                chosen = chosen or [each for each in inner if each.name == "*"]
                pending += self._origins(file, chosen, self._roots)
        return {file for file, _ in reached}
