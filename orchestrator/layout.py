"""Where a project keeps its modules and its tests. Reads and parses files; imports nothing of them."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.project import MARKERS, Project
from tta_tasks.errors import ComponentError
from tta_tasks.models import Module

#: Folders beside a package that are not part of it.
_BESIDE = re.compile(
    "asv_bench|bench(marks?)?|bin|build|ci|conda|deploy|dist|env|etc|examples?|hooks|notebooks"
    "|requirements|sandbox|scripts|site-packages|tasks?|tools|venv"
)
#: Folders anywhere whose Python is somebody else's, or no product code.
_NEVER = frozenset({"__pycache__", "_vendor", "_vendored", "doc", "docs", "test", "tests", "vendor", "vendored"})
_NEVER_FILES = re.compile(r"(conftest|dodo|fabfile|noxfile|pavement|setup|tests?)\.py")
_TEST_FILE = re.compile(r"test_.*\.py|.*_tests?\.py")
_VERSION_FILES = frozenset({"__about__", "__version__", "_version", "version"})
_TEST_FOLDERS = ("tests", "test", "testing")
#: A larger module is surely not trivial, and not worth parsing to see.
_PARSED_BYTES = 16 << 10
#: How deep in a repository a project may lie.
_PROJECT_DEPTH = 4


@dataclass(frozen=True)
class Layout:
    """The modules of a project. Paths are relative to its folder, POSIX."""

    import_root: str
    modules: tuple[Module, ...]

    @property
    def packages(self) -> tuple[str, ...]:
        """Import names at the top level."""
        return tuple(dict.fromkeys(module.name.partition(".")[0] for module in self.modules))


def find_layout(project: Project, source: str | None = None) -> Layout:
    """Find the modules of ``project``, or of its package, module or source folder ``source``.

    Raises:
        ComponentError: ``source`` is not there, or leads out of the repository.
    """
    import_root, tops = _from_source(project, source) if source else _from_habit(project)
    files = (file for top in tops for file in _python_files(top, project.repository))
    modules = {
        _dotted(file.relative_to(import_root)): file.relative_to(project.folder).as_posix()
        for file in files
        if not _trivial(file)
    }
    return Layout(
        import_root=import_root.relative_to(project.folder).as_posix(),
        modules=tuple(Module(name=name, path=modules[name]) for name in sorted(modules)),
    )


def find_tests(project: Project, layout: Layout) -> str:
    """Where the tests of ``project`` are, or where the first one should go; relative to its folder."""
    for folder in project.test_paths:
        name = PurePosixPath(os.path.normpath(folder))
        product = any(PurePosixPath(module.path).is_relative_to(name) for module in layout.modules)
        if not product and _is_folder(project.folder / name, project.folder):
            return name.as_posix()
    for folder in _TEST_FOLDERS:
        path = project.folder / folder
        # ``testing`` is as often a package as it is a folder of tests.
        if _is_folder(path, project.folder) and (folder != "testing" or any(map(_is_test, path.iterdir()))):
            return folder
    for package in layout.packages:
        for folder in _TEST_FOLDERS[:2]:
            path = project.folder / layout.import_root / package / folder
            if _is_folder(path, project.folder):
                return path.relative_to(project.folder).as_posix()
    return "." if any(map(_is_test, project.folder.iterdir())) else "tests"


def subprojects(repository: Path) -> Iterator[str]:
    """Folders below ``repository`` that are projects of their own, in order of their paths."""
    skipped = _NEVER | {"build", "dist", "node_modules", "site-packages", "venv"}
    for folder, names, files in os.walk(repository):
        relative = Path(folder).relative_to(repository)
        deep = len(relative.parts) >= _PROJECT_DEPTH or "pyvenv.cfg" in files
        names[:] = [] if deep else sorted(name for name in names if name not in skipped and not name.startswith("."))
        if relative.parts and any(marker in files for marker in MARKERS):
            yield relative.as_posix()


def top_package(folder: Path, repository: Path) -> Path:
    """The outermost package that ``folder`` or the module ``folder`` belongs to; itself when in none."""
    top = folder
    while (top.parent / "__init__.py").is_file() and top.parent != repository:
        top = top.parent
    return top


def stays_inside(path: Path, folder: Path) -> bool:
    """Whether no symlink on the way to ``path`` leads out of ``folder``."""
    # ``Path.resolve`` raises where symlinks go in circles.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _from_source(project: Project, source: str) -> tuple[Path, list[Path]]:
    path = project.folder / source
    if not path.exists() and (project.repository / source).exists():
        path = project.repository / source  # written as seen from the repository
    if not path.exists() or not stays_inside(path, project.repository) or not path.is_relative_to(project.folder):
        why = "leads out of the project" if path.exists() else "is not there"
        raise ComponentError(
            f"The source {source!r} {why} (project folder {project.root!r}).",
            "Give a path relative to the project folder.",
        )
    if path.is_file() or (path / "__init__.py").is_file():
        return top_package(path, project.folder).parent if path != project.folder else path, [path]
    return path, _entries(path)


def _from_habit(project: Project) -> tuple[Path, list[Path]]:
    """The src layout, else flat, else the older names of a source folder."""
    folder = project.folder
    for import_root in (folder / "src", folder, folder / "lib", folder / "python"):
        if not import_root.is_dir() or not stays_inside(import_root, project.repository):
            continue
        if import_root == folder:
            tops = _flat(project)
        elif (import_root / "__init__.py").is_file():
            continue  # a package that is named so
        else:
            tops = _entries(import_root)
        if any(True for top in tops for _ in _python_files(top, project.repository)):
            return import_root, tops
    return folder, []


def _flat(project: Project) -> list[Path]:
    """Packages beside ``pyproject.toml``, and the modules there if they are the product."""
    own = re.sub(r"[-_.]+", "_", project.name or "").lower()
    entries = [
        entry
        for entry in _entries(project.folder)
        if entry.stem.lower() == own or entry.is_file() or not _BESIDE.fullmatch(entry.name)
    ]
    folders = [entry for entry in entries if entry.is_dir()]
    packages = [folder for folder in folders if (folder / "__init__.py").is_file() or folder.name == own]
    modules = [entry for entry in entries if entry.is_file() and not (entry.parent / entry.stem).is_dir()]
    if project.declared and packages:
        modules = [module for module in modules if module.stem.lower() == own]
    # Where there is nothing else, a folder without ``__init__.py`` is the package.
    return packages + modules or [folder for folder in folders if any(folder.glob("*.py"))]


def _entries(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if (entry.is_dir() and entry.name.isidentifier() and entry.name not in {*_NEVER, "testing"})
        or (entry.suffix == ".py" and entry.is_file())
    )


def _python_files(top: Path, repository: Path) -> Iterator[Path]:
    if top.is_file():
        if _is_product(top, repository):
            yield top
        return
    if not stays_inside(top, repository):
        return
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name.isidentifier() and name not in _NEVER)
        yield from (path for path in (Path(folder, file) for file in sorted(files)) if _is_product(path, repository))


def _is_product(path: Path, repository: Path) -> bool:
    return (
        path.suffix == ".py"
        and path.stem.isidentifier()  # else nothing can import it
        and not _NEVER_FILES.fullmatch(path.name)
        and not _is_test(path)
        and path.is_file()
        and stays_inside(path, repository)
    )


def _is_test(path: Path) -> bool:
    return _TEST_FILE.fullmatch(path.name) is not None


def _is_folder(path: Path, within: Path) -> bool:
    return path.is_dir() and stays_inside(path, within)


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _trivial(path: Path) -> bool:
    """Whether a module has nothing to test: no statement, or only a version."""
    if path.stat().st_size > _PARSED_BYTES:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # the module's own task will say so
    except OSError:
        return False
    if path.stem in _VERSION_FILES:
        return not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)
    return all(_says_nothing(node) for node in body)


def _says_nothing(node: ast.stmt) -> bool:
    """Docstrings, ``pass``, and constants of the package itself such as ``__version__ = "1.0"``."""
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return isinstance(node.value, ast.Constant) and all(name.startswith("__") for name in names)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
