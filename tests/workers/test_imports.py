"""Static imports: what a module's behaviour, and what its coverage, depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tta_tasks.foreign import ForeignTree
from workers.component.imports import import_closure, importers


def _write(root: Path, sources: dict[str, str]) -> None:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def _names(files: set[Path], root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in files}


PACKAGE = {
    "pkg/__init__.py": "from pkg.api import run\n",
    "pkg/api.py": "import os, json\nfrom .core import deep\nfrom . import helpers\ndef run(): ...\n",
    "pkg/helpers.py": "from pkg.core.deep import *\n",
    "pkg/core/__init__.py": "",
    "pkg/core/deep.py": "from ..leaf import x\n",
    "pkg/leaf.py": "x = 1\n",
    "pkg/unrelated.py": "import pkg.leaf\n",
    "other.py": "y = 1\n",
    "lazy.py": "def f():\n    import other\n",
    "dynamic.py": "import importlib\nimportlib.import_module('other')\nimportlib.import_module('.x', __name__)\n",
    "circle_a.py": "import circle_b\n",
    "circle_b.py": "import circle_a\n",
    "broken.py": "import other\ndef (\n",
    "nul.py": "import other\0\n",
    "namespace/inner.py": "import namespace.second\n",
    "namespace/second.py": "",
    "both.py": "",
    "both/__init__.py": "",
    "uses_both.py": "import both, nowhere.at.all\nfrom .... import beyond\n",
}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("pkg/leaf.py", "pkg/__init__.py pkg/api.py pkg/core/__init__.py pkg/core/deep.py pkg/helpers.py pkg/leaf.py"),
        ("other.py", "other.py"),
        ("lazy.py", "lazy.py other.py"),
        ("dynamic.py", "dynamic.py other.py"),
        ("circle_a.py", "circle_a.py circle_b.py"),
        ("broken.py", "broken.py"),
        ("nul.py", "nul.py"),
        ("namespace/inner.py", "namespace/inner.py namespace/second.py"),
        ("uses_both.py", "uses_both.py both/__init__.py"),
        ("missing.py", "missing.py"),
    ],
)
def test_closure_of_a_module(tmp_path: Path, module: str, expected: str) -> None:
    """A module's closure is its file, its packages' files, and what these import in any way."""
    _write(tmp_path, PACKAGE)
    assert _names(import_closure(ForeignTree(tmp_path), tmp_path / module, tmp_path), tmp_path) == set(expected.split())


def test_closure_holds_all_that_python_loads(tmp_path: Path) -> None:
    """Whatever files of the tree Python really loads for a module are in its closure."""
    _write(tmp_path, PACKAGE)
    script = (
        "import sys, pkg.unrelated; print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    loaded = {Path(file) for file in done.stdout.split() if Path(file).is_relative_to(tmp_path)}
    assert len(loaded) == 7
    assert loaded <= import_closure(ForeignTree(tmp_path), tmp_path / "pkg" / "unrelated.py", tmp_path)


def test_closure_stays_inside(tmp_path: Path) -> None:
    """Files outside the import root are no part of a closure, even when relative imports reach for them."""
    _write(tmp_path, {"src/pkg/m.py": "from ... import outside\nfrom ...outside import x\n", "outside.py": ""})
    assert _names(import_closure(ForeignTree(tmp_path), tmp_path / "src/pkg/m.py", tmp_path / "src"), tmp_path) == {
        "src/pkg/m.py"
    }


def test_huge_source_is_not_parsed(tmp_path: Path) -> None:
    """A file of megabytes imports nothing, and costs nothing."""
    _write(tmp_path, {"m.py": "import other\n" + "x = 1\n" * 1_000_000, "other.py": ""})
    assert _names(import_closure(ForeignTree(tmp_path), tmp_path / "m.py", tmp_path), tmp_path) == {"m.py"}


TESTS = {
    "src/pkg/__init__.py": "from .a import f\nfrom .b import *\nfrom .sub import g as renamed\nVERSION = '1'\n",
    "src/pkg/a.py": "",
    "src/pkg/b.py": "",
    "src/pkg/c.py": "from . import a\n",
    "src/pkg/sub/__init__.py": "from .deep import g\n",
    "src/pkg/sub/deep.py": "",
    "tests/test_direct.py": "import pkg.a\n",
    "tests/test_submodule.py": "from pkg import a as module\n",
    "tests/test_reexport.py": "from pkg import f\n",
    "tests/test_star.py": "from pkg import something_of_b\n",
    "tests/test_renamed.py": "from pkg import renamed\n",
    "tests/test_whole.py": "import pkg\n",
    "tests/test_c.py": "from pkg.c import x\n",
    "tests/test_by_helper.py": "from helper import anything\n",
    "tests/helper.py": "import data\nfrom pkg.a import f\n",
    "tests/data.py": "",
    "tests/test_nothing.py": "import os\n",
    "tests/fixtures/conftest.py": "from tests.helper import anything\n",
    "tests/fixtures/test_fixture.py": "def test(made_of_a): ...\n",
    "tests/conftest.py": "import pytest\n",
}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            "a.py",
            "test_direct.py test_submodule.py test_reexport.py test_whole.py test_by_helper.py helper.py data.py \
            fixtures/conftest.py fixtures/test_fixture.py conftest.py",
        ),
        ("b.py", "conftest.py test_star.py test_whole.py"),
        ("c.py", "conftest.py test_c.py"),
        ("sub/deep.py", "conftest.py test_renamed.py test_whole.py"),
    ],
)
def test_tests_of_a_module(tmp_path: Path, module: str, expected: str) -> None:
    """Tests belong to a module they import directly, by re-export, by helper or fixture; others do not."""
    _write(tmp_path, TESTS)
    found = importers(ForeignTree(tmp_path), tmp_path / "tests", {tmp_path / "src" / "pkg" / module}, tmp_path / "src")
    assert _names(found, tmp_path / "tests") == set(expected.split())


def test_no_tests(tmp_path: Path) -> None:
    """A tests' folder that is not there has no importers."""
    _write(tmp_path, {"m.py": ""})
    assert importers(ForeignTree(tmp_path), tmp_path / "tests", {tmp_path / "m.py"}, tmp_path) == set()
