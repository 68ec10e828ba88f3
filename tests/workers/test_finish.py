"""The last touch on accepted tests."""

from __future__ import annotations

import textwrap

from workers.finish import unite

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
    united = unite(FIRST, SECOND)
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
    assert unite(FIRST, FIRST) is None
    helper = textwrap.dedent("""
        VALUE = 1
        def test_other():
            assert VALUE
    """)
    assert unite(helper, "VALUE = 2\n") is None
