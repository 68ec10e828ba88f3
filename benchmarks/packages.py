"""Real components to bring to a release: the calculator of the examples, and packages from their source distributions.

What comes out of an sdist has its tests removed: writing them is the work.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.system import ROOT

SPEC = """\
# Test {name}

Write the missing tests.

## Acceptance criteria

- It imports
"""
TESTS = ("tests", "test", "test_*.py", "*_test.py", "conftest.py")


@dataclass(frozen=True)
class Package:
    """One of them.

    Args:
        name: As it is called in the report, and on the package index.
        version: Empty for the example.
        component: What it is called in the repository.
        module: The file that is changed for the last case, relative to the repository; no other module imports it.
        target: How far it is brought.
    """

    name: str
    version: str
    component: str
    module: str
    target: str


PACKAGES = (
    Package("calculator", "", "calculator", "src/calculator/__main__.py", "production"),
    Package("inflection", "0.5.1", "inflection", "inflection/__init__.py", "dev"),
    Package("python-slugify", "9.2.0", "python-slugify", "slugify/__main__.py", "dev"),
)


def fetched(package: Package, cache: Path) -> Path:
    """The package's tree, kept in ``cache``.

    Raises:
        SystemExit: It cannot be fetched.
    """
    if not package.version:
        return ROOT / "examples" / package.name
    kept = cache / "packages" / f"{package.name}-{package.version}"
    if not kept.exists():
        folder = kept.with_suffix(".partial")
        shutil.rmtree(folder, ignore_errors=True)
        _download(f"{package.name}=={package.version}", folder)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "tree", filter="data")
        (tree,) = (folder / "tree").iterdir()
        for pattern in TESTS:
            for found in list(tree.rglob(pattern)):
                shutil.rmtree(found) if found.is_dir() else found.unlink()
        tree.rename(kept)
        shutil.rmtree(folder)
    return kept


def prepared(package: Package, cache: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the package's tree in ``folder``, to be worked on, and its spec."""
    tree = folder / "repository"
    shutil.copytree(fetched(package, cache), tree, ignore=shutil.ignore_patterns(".tta", "__pycache__"))
    spec = folder / "spec.md"
    spec.write_text(SPEC.format(name=package.name), encoding="utf-8")
    return tree, spec


def changed(package: Package, tree: Path) -> None:
    """Change one module, harmlessly."""
    with (tree / package.module).open("a", encoding="utf-8") as file:
        file.write("\n\ndef changed(flag: bool) -> int:\n    return 1 if flag else 2\n")


def _download(requirement: str, folder: Path) -> None:
    argv = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*argv, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{requirement} could not be fetched: {done.stderr.strip()[-800:]}")
