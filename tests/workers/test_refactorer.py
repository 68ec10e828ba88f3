"""The embedded refactorer changes what it may, verifies each step, and takes back what does not hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tta_tasks.models import Component, Module
from tta_tasks.protocols import Workspace
from workers.component.api_compat import api_breakages
from workers.refactorers.embedded import EmbeddedRefactorer
from workers.sandbox import detect_sandbox

MakeWorkspace = Callable[..., Workspace]

UNTIDY = """\
import sys, os

def greet(name):
    if name == "":
        return "nobody"
    else:
        return "hello {}".format(name)

def home():
    return os.sep
"""
TIDY = """\
import os


def greet(name):
    if name == "":
        return "nobody"
    return f"hello {name}"


def home():
    return os.sep
"""


def holds() -> str:
    return ""


@pytest.fixture
def make(tmp_path: Path) -> MakeWorkspace:
    """A workspace of the given files; those below ``tests/`` are not modules."""

    def workspace(files: dict[str, str], requires_python: str | None = ">=3.10") -> Workspace:
        root, scratch = tmp_path / "tree", tmp_path / "scratch"
        scratch.mkdir()
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        sources = [path for path in files if path.endswith(".py") and not path.startswith("tests/")]
        modules = tuple(
            Module(name=path[:-3].replace("/", ".").removesuffix(".__init__"), path=path) for path in sources
        )
        component = Component(name="demo", modules=modules, requires_python=requires_python)
        return Workspace(root, component, Path(sys.executable), detect_sandbox(), scratch)

    return workspace


def outcomes(workspace: Workspace, verify: Callable[[], str] = holds) -> dict[str, tuple[str, str]]:
    steps = EmbeddedRefactorer().refactor(workspace, verify).steps
    return {step.name: (step.outcome, step.detail) for step in steps}


def test_each_tool_is_a_step_of_its_own(make: MakeWorkspace) -> None:
    """pyupgrade, ruff's fixes and a configured formatter each say what they did, and the result is tidy."""
    workspace = make({"demo.py": UNTIDY, "pyproject.toml": "[tool.black]\nline-length = 100\n"})
    assert outcomes(workspace) == {
        "pyupgrade": ("kept", "1 file rewritten"),
        "ruff check": ("kept", "3 fixes: F401 1, I001 1, RET505 1"),
        "ruff format": ("kept", "1 file rewritten"),
    }
    assert (workspace.root / "demo.py").read_text() == TIDY


def test_tests_are_left_alone(make: MakeWorkspace) -> None:
    """Only the component's modules change."""
    workspace = make({"demo.py": UNTIDY, "tests/test_demo.py": UNTIDY})
    outcomes(workspace)
    assert (workspace.root / "tests/test_demo.py").read_text() == UNTIDY


def test_unformatted_code_stays_as_it_is(make: MakeWorkspace) -> None:
    """Nobody's whole code base is reformatted who does not use a formatter."""
    workspace = make({"demo.py": "".join(f"value_{n} = ( {n} )\n" for n in range(30))})
    outcome, detail = outcomes(workspace)["ruff format"]
    assert outcome == "nothing"
    assert detail == "no formatter is configured, and 100% of the lines would change"


def test_nearly_formatted_code_is_formatted(make: MakeWorkspace) -> None:
    """Where all but a line or two follow the formatter, the rest may, too."""
    workspace = make({"demo.py": "".join(f"value_{n} = {n}\n" for n in range(60)) + "last = ( 1 )\n"})
    assert outcomes(workspace)["ruff format"] == ("kept", "1 file rewritten")


def test_the_repositorys_own_rules_are_followed(make: MakeWorkspace) -> None:
    """With a ruff configuration only its rules apply, and what it excludes is left alone."""
    config = 'exclude = ["vendored.py"]\n[lint]\nselect = ["RET505"]\n'
    workspace = make({"demo.py": UNTIDY, "vendored.py": UNTIDY, "ruff.toml": config}, requires_python="<3.5,>=3.4")
    assert outcomes(workspace)["ruff check"] == ("kept", "1 fix: RET505 1")
    assert (workspace.root / "demo.py").read_text().startswith("import sys, os\n")


def test_configuration_outside_the_checkout_does_not_count(make: MakeWorkspace) -> None:
    """A checkout may lie below another project, whose rules are not the component's."""
    workspace = make({"demo.py": UNTIDY})
    (workspace.root.parent / "ruff.toml").write_text('[lint]\nselect = ["RET505"]\n')
    assert "F401 1" in outcomes(workspace)["ruff check"][1]


def test_what_does_not_hold_is_taken_back_file_by_file(make: MakeWorkspace) -> None:
    """When one file's change breaks something, the other files keep theirs."""
    workspace = make({f"m{n}.py": UNTIDY for n in range(4)})
    broken = workspace.root / "m2.py"

    def verify() -> str:
        return "m2 must stay" if broken.read_text() != UNTIDY else ""

    steps = EmbeddedRefactorer().refactor(workspace, verify).steps
    assert [(s.outcome, s.files, s.detail) for s in steps if s.name == "pyupgrade"] == [
        ("kept", ("m0.py", "m1.py", "m3.py"), "3 files rewritten"),
        ("dropped", ("m2.py",), "m2 must stay"),
    ]
    assert broken.read_text() == UNTIDY
    assert (workspace.root / "m3.py").read_text() != UNTIDY


def test_a_module_with_a_syntax_error_is_left_alone(make: MakeWorkspace) -> None:
    """It neither changes nor keeps the others from changing."""
    workspace = make({"demo.py": UNTIDY, "broken.py": "def f(:\n", "pyproject.toml": "[tool.black]\n"})
    assert {outcome for outcome, _ in outcomes(workspace).values()} == {"kept"}
    assert (workspace.root / "broken.py").read_text() == "def f(:\n"
    assert (workspace.root / "demo.py").read_text() == TIDY


def test_configuration_that_cannot_be_read_drops_the_step(make: MakeWorkspace) -> None:
    """The reason is shown, the other tools go on, and nothing is raised."""
    workspace = make({"demo.py": UNTIDY, "ruff.toml": 'line-length = "wide"\n'})
    steps = outcomes(workspace)
    assert steps["pyupgrade"][0] == "kept"
    assert steps["ruff check"][0] == "dropped"
    assert "expected i64" in steps["ruff check"][1]


def test_python_2_is_not_upgraded_away(make: MakeWorkspace) -> None:
    """A component that still runs on Python 2 keeps its spelling."""
    workspace = make({"demo.py": "TEXT = u'a'\n"}, requires_python=">=2.7,!=3.0.*")
    assert outcomes(workspace)["pyupgrade"] == ("nothing", "the component supports Python 2")


def test_what_setup_py_requires_is_respected(make: MakeWorkspace) -> None:
    """A version that only setup.py names bounds what is modernised: no f-strings for Python 3.5."""
    setup = "from setuptools import setup\n\nsetup(python_requires='>=3.5')\n"
    workspace = make({"demo.py": UNTIDY, "setup.py": setup}, requires_python=None)
    EmbeddedRefactorer().refactor(workspace, holds)
    assert '"hello {}".format(name)' in (workspace.root / "demo.py").read_text()


@pytest.mark.parametrize(
    ("before", "after", "breakage"),
    [
        ("def f(a, b=1): ...", "def f(a, b=2): ...", "demo.f(b): parameter default was changed"),
        ("def f(): ...", "", "demo.f: public object was removed"),
        ("class K:\n    def m(self, a): ...", "class K:\n    def m(self): ...", "demo.K.m(a): parameter was removed"),
        ("from demo.inner import x", "", "demo.x: is no longer exported"),
    ],
)
def test_a_changed_public_api_is_seen(tmp_path: Path, before: str, after: str, breakage: str) -> None:
    """What a user of the component would notice is named."""
    for name, text in (("old", before), ("new", after)):
        package = tmp_path / name / "demo"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
        (package / "inner.py").write_text("x = 1\n")
    component = Component(name="demo", modules=(Module(name="demo", path="demo/__init__.py"),))
    (tmp_path / "scratch").mkdir()
    old, new = (
        Workspace(tmp_path / name, component, Path(sys.executable), detect_sandbox(), tmp_path / "scratch")
        for name in ("old", "new")
    )
    assert api_breakages(old, new) == (breakage,)
    assert api_breakages(old, old) == ()
