"""Where a generated test file goes, by the habits of the repository's tests."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, Module


def place_tests(
    tree: ForeignTree, component: Component, module: Module, label: str, taken: Collection[str] = ()
) -> str:
    """A path for new tests of ``module``, relative to the project; nothing is there yet.

    ``tests/test_NAME_LABEL.py``, or ``NAME_LABEL_test.py`` where all tests of the repository are called so; in the
    folder below the tests that mirrors the module's package, where there is one.

    Args:
        tree: The checkout.
        component: Whose module it is.
        module: What the tests are for.
        label: What sort of tests they are: ``characterization``.
        taken: Paths that are promised to others.
    """
    project = PurePosixPath(component.root)
    tests = project / component.tests
    folder = _mirror(tree, tests, module).relative_to(project)
    stem = f"{_short_name(_python_files(tree, project / component.import_root), module)}_{label}"
    pattern = "{}_test.py" if _suffixed(_python_files(tree, tests)) else "test_{}.py"
    stems = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    places = ((folder / pattern.format(each)).as_posix() for each in stems)
    return next(path for path in places if path not in taken and not tree.exists(project / path))


def _python_files(tree: ForeignTree, folder: PurePosixPath) -> list[PurePosixPath]:
    """Relative to the folder; none where there are more than can be looked through."""
    try:
        return [PurePosixPath(found.path).relative_to(folder) for found in tree.files("*.py", folder)]
    except OSError:
        return []


def _short_name(files: Collection[PurePosixPath], module: Module) -> str:
    """The module's name, with as many of its packages as it takes to be the only one of that name."""
    parts = module.name.split(".")
    names = Counter(file.parts[:-1] if file.name == "__init__.py" else (*file.parts[:-1], file.stem) for file in files)
    for length in range(1, len(parts)):
        ending = tuple(parts[-length:])
        if sum(count for name, count in names.items() if name[-length:] == ending) <= 1:
            return "_".join(ending)
    return "_".join(parts)


def _mirror(tree: ForeignTree, tests: PurePosixPath, module: Module) -> PurePosixPath:
    packages = module.name.split(".")[:-1]
    mirrors = (tests.joinpath(*packages[skipped:]) for skipped in range(len(packages)))
    return next((folder for folder in mirrors if tree.is_folder(folder)), tests)


def _suffixed(files: Collection[PurePosixPath]) -> bool:
    prefixed = any(file.match("test_*.py") for file in files)
    return not prefixed and any(file.match("*_test.py") for file in files)
