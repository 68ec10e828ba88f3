"""The last touch on accepted tests."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from tta_tasks.models import Component
from tta_tasks.protocols import Workspace
from workers.acceptance.formatting import format_tests, merge_test_files
from workers.sandbox import detect_sandbox

FIRST = '''"""Tests of a."""

import pytest

from a import f


@pytest.mark.parametrize("x", [1, 2])
def test_f(x):
    assert f(x) == x
'''
SECOND = '''"""More tests of a."""

import pytest

from a import g


# A comment that belongs to the test.
def test_g():
    with pytest.raises(ValueError):
        g()
'''


def test_two_rounds_become_one_file() -> None:
    """One docstring, each import once, all tests, in order."""
    united = merge_test_files(FIRST, SECOND)
    assert united is not None
    assert united.count("import pytest") == 1
    assert united.startswith('"""Tests of a."""')
    assert "More tests" not in united
    found = [
        united.index(part)
        for part in ("import pytest", "from a import f", "from a import g", "def test_f", "def test_g")
    ]
    assert found == sorted(found)
    assert "@pytest.mark.parametrize" in united
    assert "# A comment that belongs to the test.\ndef test_g" in united
    compile(united, "united.py", "exec")


def test_same_names_stay_apart() -> None:
    """Two files that define the same name are not mixed: one would hide the other."""
    assert merge_test_files(FIRST, FIRST) is None
    helper = textwrap.dedent("""
        VALUE = 1
        def test_other():
            assert VALUE
    """)
    assert merge_test_files(helper, "VALUE = 2\n") is None


def test_files_follow_the_repository_s_style(tmp_path: Path) -> None:
    """Fixed and formatted as configured; what stays is switched off by name, and the tree is as it was."""
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "scratch").mkdir()
    (project / "pyproject.toml").write_text(
        '[tool.ruff]\nline-length = 60\nlint.select = ["E", "I", "SIM"]\nformat.quote-style = "single"\n'
    )
    work = Workspace(
        root=project,
        component=Component(name="a", modules=()),
        python=Path(sys.executable),
        sandbox=detect_sandbox(),
        scratch=tmp_path / "scratch",
    )
    source = 'import sys\nimport os\n\n\ndef test_a():\n    assert not os.sep != "/" or sys.path\n'
    styled = format_tests(work, {"tests/unit/test_a.py": source})["tests/unit/test_a.py"]
    assert styled == (
        "# ruff: noqa: SIM202\nimport os\nimport sys\n\n\ndef test_a():\n    assert not os.sep != '/' or sys.path\n"
    )
    assert [path.name for path in project.iterdir()] == ["pyproject.toml"]
