"""Where a generated test file goes, by the habits of the repository's tests."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tta_tasks.models import Component, Module


def place_tests(project: Path, component: Component, module: Module, label: str, taken: Collection[str] = ()) -> str:
    """A path for new tests of ``module``, relative to the project; nothing is there yet.

    ``tests/test_NAME_LABEL.py``, or ``NAME_LABEL_test.py`` where all tests of the repository are called so; in the
    folder below the tests that mirrors the module's package, where there is one.

    Args:
        project: The component's project folder.
        component: Whose module it is.
        module: What the tests are for.
        label: What sort of tests they are: ``characterization``.
        taken: Paths that are promised to others.
    """
    folder = _mirror(project / component.tests, module).relative_to(project)
    stem = f"{_short_name(project / component.import_root, module)}_{label}"
    pattern = "{}_test.py" if _suffixed(project / component.tests) else "test_{}.py"
    stems = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    paths = (PurePosixPath(folder.as_posix(), pattern.format(each)).as_posix() for each in stems)
    return next(path for path in paths if path not in taken and not (project / path).exists())


def _short_name(import_root: Path, module: Module) -> str:
    """The module's name, with as many of its packages as it takes to be the only one of that name."""
    parts = module.name.split(".")
    for length in range(1, len(parts)):
        ending = "/".join(parts[-length:])
        if len([*import_root.rglob(f"{ending}.py"), *import_root.rglob(f"{ending}/__init__.py")]) <= 1:
            return "_".join(parts[-length:])
    return "_".join(parts)


def _mirror(tests: Path, module: Module) -> Path:
    packages = module.name.split(".")[:-1]
    mirrors = (tests.joinpath(*packages[skipped:]) for skipped in range(len(packages)))
    return next((folder for folder in mirrors if folder.is_dir()), tests)


def _suffixed(tests: Path) -> bool:
    prefixed = next(tests.rglob("test_*.py"), None) if tests.is_dir() else None
    return prefixed is None and tests.is_dir() and next(tests.rglob("*_test.py"), None) is not None
