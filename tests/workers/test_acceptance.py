"""Facts about which generated tests are kept, and why the others are not."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, Module, SuiteReport
from tta_tasks.protocols import CandidateTests, Workspace
from workers.acceptance import AcceptanceResult, accept, runner
from workers.acceptance.set_cover import cover
from workers.acceptance.source import TestFile
from workers.acceptance.static import StaticCheck
from workers.acceptance.tree_guard import TreeGuard
from workers.component.suite import run_suite
from workers.sandbox import ProcessSandbox

OPS = """\
_registry = []
_cache = {}


def add(a, b):
    return a + b


def sign(n):
    if n > 0:
        return 1
    if n < 0:
        return -1
    return 0


def half(n):
    if n % 2:
        raise ValueError(f"odd: {n}")
    return n // 2


def register(x):
    _registry.append(x)
    return len(_registry)


def square(n):
    if n not in _cache:
        _cache[n] = n * n
    return _cache[n]
"""
EXISTING = "from calc.ops import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"

CANDIDATE = '''\
"""Generated."""

import json
import os
import subprocess
import time

import pytest

from calc import ops
from calc.ops import add, half, register, sign, square


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 2, 3),
        (1, 2, 4),
    ],
)
def test_adds(a, b, expected):
    assert add(a, b) == expected


@pytest.mark.parametrize("n", [1, -1, 0, 5], ids=["plus", "minus", "zero", "five"])
def test_sign(n):
    """The sign."""
    assert sign(n) == (n > 0) - (n < 0)


def test_half():
    assert half(4) == 2


# An odd number has no half.
def test_half_of_odd():
    with pytest.raises(ValueError, match="odd: 3"):
        half(3)


def test_square():
    assert square(3) == 9


def test_registers():
    assert register(1) == 1


def test_sets_environment():
    os.environ["LEFT"] = "1"
    assert half(2) == 1


def test_changes_folder():
    os.chdir("/")
    assert half(2) == 1


def test_patches_module():
    ops.half = None
    assert half(2) == 1


def test_patches_library():
    time.sleep = print
    assert half(2) == 1


def test_hash_order():
    assert next(iter({"a", "b", "c", "d", "e", "f", "g", "h"})) in {HASHED}
    assert half(2) == 1


def test_time_zone():
    assert time.timezone == 0
    assert half(2) == 1


def test_hangs():
    assert half(2) == 1
    time.sleep(100)


def test_exits():
    assert half(2) == 1
    os._exit(0)


def test_leaves_process():
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert half(2) == 1


def test_writes_file():
    open("left.txt", "w").close()
    assert half(2) == 1


def test_changes_source():
    with open(ops.__file__, "a") as file:
        file.write("# touched")
    assert half(2) == 1


def test_add_again():
    """The same as one that is there."""
    assert add(1, 2) == 3


def test_needs_nothing():
    half(2)


class TestZero:
    def test_zero(self):
        zero = sign(0)
        text = json.dumps(zero)
        assert text == "0"


def test_skips():
    if half(2):
        request = pytest
        getattr(request, "skip")("not today")
    assert half(2) == 1
'''

EXPECTED_REJECTIONS = {
    "test_adds[1-2-4]": ("fails", "assert 3 == 4"),
    "test_adds[1-2-3]": ("adds_nothing", ""),
    "test_sign[five]": ("adds_nothing", ""),
    "test_registers": ("leaks", "module: calc.ops._registry"),
    "test_sets_environment": ("leaks", "environment: LEFT"),
    "test_changes_folder": ("leaks", "process: cwd"),
    "test_patches_module": ("leaks", "module: calc.ops.half"),
    "test_patches_library": ("leaks", "standard library: time.sleep"),
    "test_hash_order": ("flaky", "hash seed"),
    "test_time_zone": ("flaky", "time zone JST-9"),
    "test_hangs": ("hangs", "did not end within"),
    "test_exits": ("crashes", "exit status 0"),
    "test_leaves_process": ("leaks", "process: a process that still ran"),
    "test_writes_file": ("leaks", "left.txt"),
    "test_changes_source": ("leaks", "src/calc/ops.py"),
    "test_add_again": ("duplicate", "test_ops.py::test_add"),
    "test_needs_nothing": ("no_assertion", ""),
    "TestZero::test_zero": ("adds_nothing", ""),
    "test_skips": ("skipped", ""),
}

EXPECTED_FILE = '''\
"""Generated."""

import pytest

from calc.ops import half, sign, square


@pytest.mark.parametrize("n", [1, -1, 0], ids=["plus", "minus", "zero"])
def test_sign(n):
    """The sign."""
    assert sign(n) == (n > 0) - (n < 0)


def test_half():
    assert half(4) == 2


# An odd number has no half.
def test_half_of_odd():
    with pytest.raises(ValueError, match="odd: 3"):
        half(3)


def test_square():
    assert square(3) == 9
'''

MODULE = Module(name="calc.ops", path="src/calc/ops.py")


def component(folder: Path, python: Path, files: dict[str, str] | None = None) -> Workspace:
    for name, text in {"src/calc/__init__.py": "", MODULE.path: OPS, **(files or {})}.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "scratch").mkdir()
    return Workspace(
        root=folder / "tree",
        component=Component(name="calc", import_root="src", modules=(MODULE,)),
        python=python,
        # The level every host has; a stronger one would keep some tests from doing their harm.
        sandbox=ProcessSandbox("process-group"),
        scratch=folder / "scratch",
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, component_python: Path) -> Workspace:
    """A component with one test, shared: acceptance leaves it as it is."""
    return component(tmp_path_factory.mktemp("accept"), component_python, {"tests/test_ops.py": EXISTING})


@pytest.fixture(scope="module")
def baseline(workspace: Workspace) -> SuiteReport:
    """The suite of that component."""
    return run_suite(workspace)


@pytest.fixture(scope="module")
def judged(workspace: Workspace, baseline: SuiteReport) -> Iterator[tuple[AcceptanceResult, dict[str, bytes]]]:
    """The big candidate, judged; and the tree as it was before."""
    first = workspace.run_python("-c", "print(next(iter(set('abcdefgh'))))", env={"PYTHONHASHSEED": "0"})
    source = CANDIDATE.replace("{HASHED}", f'{{"{first.stdout.strip()}"}}')
    before = contents(workspace.root)
    candidate = CandidateTests("tests/test_gen.py", source, {"test_half": ("AC1",)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "CASE_TIMEOUT_S", 1.5)
        yield accept(workspace, MODULE, [candidate], baseline=baseline), before


def test_every_bad_test_is_turned_down_with_its_reason(judged: tuple[AcceptanceResult, dict[str, bytes]]) -> None:
    """Each test that fails, leaks, flickers, hangs, repeats or adds nothing is told apart from the others."""
    rejected = {each.name: each for each in judged[0].rejected}
    assert {name: each.reason for name, each in rejected.items()} == {
        name: reason for name, (reason, _) in EXPECTED_REJECTIONS.items()
    }
    for name, (_, detail) in EXPECTED_REJECTIONS.items():
        assert detail in rejected[name].detail


def test_what_is_kept_is_cut_out_cleanly(judged: tuple[AcceptanceResult, dict[str, bytes]]) -> None:
    """Functions, single rows with their ids and unused imports go; comments, docstrings and layout stay."""
    assert judged[0].files == {"tests/test_gen.py": EXPECTED_FILE}


def test_accepted_tests_say_why_and_for_which_criterion(judged: tuple[AcceptanceResult, dict[str, bytes]]) -> None:
    """One entry a case, by the names they have in the final file."""
    accepted = {each.name: (each.reason, each.criteria) for each in judged[0].accepted}
    assert accepted == {
        "test_sign[plus]": ("coverage", ()),
        "test_sign[minus]": ("coverage", ()),
        "test_sign[zero]": ("coverage", ()),
        "test_half": ("coverage", ("AC1",)),
        "test_half_of_odd": ("coverage", ()),
        "test_square": ("coverage", ()),
    }


def test_coverage_after_is_what_the_suite_then_measures(
    workspace: Workspace, judged: tuple[AcceptanceResult, dict[str, bytes]]
) -> None:
    """The figure is that of the component's own tests and the accepted ones in one run."""
    acceptance = judged[0]
    (path, source), *_ = acceptance.files.items()
    place = workspace.project / path
    place.write_text(source)
    try:
        suite = run_suite(workspace)
    finally:
        place.unlink()
    assert suite.green
    assert suite.coverage == (acceptance.coverage_after,)
    assert acceptance.coverage_after.percent > 85 > acceptance.coverage_before.percent


def test_the_workspace_is_left_as_it_was(
    workspace: Workspace, judged: tuple[AcceptanceResult, dict[str, bytes]]
) -> None:
    """Candidates, what they wrote, and what they changed in the source are gone."""
    assert contents(workspace.root) == judged[1]
    assert not list(workspace.scratch.iterdir())


PATHS = {
    "outside the tests": ("src/calc/test_gen.py", "is not below tests"),
    "climbing out": ("tests/../src/test_gen.py", "is not below tests"),
    "existing": ("tests/test_ops.py", "exists already"),
    "configuration": ("tests/conftest.py", "is not a test file"),
    "absolute": ("/tmp/test_gen.py", "is not below tests"),  # noqa: S108  # never written
}
GOOD = "from calc.ops import half\n\n\ndef test_half():\n    assert half(4) == 2\n"


def rejections(acceptance: AcceptanceResult) -> list[tuple[str, str]]:
    return [(each.name, each.reason) for each in acceptance.rejected]


def test_files_that_are_not_run(workspace: Workspace, baseline: SuiteReport) -> None:
    """Wrong places, syntax errors and files without tests cost no run and bring nothing."""
    candidates = [CandidateTests(path, GOOD) for path, _ in PATHS.values()]
    candidates += [
        CandidateTests("tests/test_syntax.py", "def test(:\n"),
        CandidateTests("tests/test_none.py", "x = 1\n"),
    ]
    acceptance = accept(workspace, MODULE, candidates, baseline=baseline)
    assert [each.detail for each in acceptance.rejected[: len(PATHS)]] == [detail for _, detail in PATHS.values()]
    assert {each.reason for each in acceptance.rejected[: len(PATHS)]} == {"path"}
    assert rejections(acceptance)[len(PATHS) :] == [
        ("tests/test_syntax.py", "syntax"),
        ("tests/test_none.py", "no_tests"),
    ]
    assert (acceptance.files, acceptance.coverage_after) == ({}, acceptance.coverage_before)


def test_a_file_that_cannot_be_imported_does_not_take_others_along(workspace: Workspace, baseline: SuiteReport) -> None:
    """Import errors and interpreters that die on import cost their own file only."""
    acceptance = accept(
        workspace,
        MODULE,
        [
            CandidateTests("tests/test_missing.py", f"import no_such_thing\n{GOOD}".replace("4", "8")),
            CandidateTests("tests/test_dies.py", f"import os\nos._exit(3)\n{GOOD}".replace("4", "6")),
            CandidateTests("tests/test_good.py", GOOD),
        ],
        baseline=baseline,
        mutation_budget_s=0,
    )
    assert dict(rejections(acceptance)) == {"tests/test_missing.py": "fails", "tests/test_dies.py": "fails"}
    assert [each.name for each in acceptance.accepted] == ["test_half"]


def test_several_engines_are_cut_down_together(workspace: Workspace, baseline: SuiteReport) -> None:
    """Of two files that reach the same, the shorter tests stay; a file without tests left is not written."""
    long = "from calc.ops import half\n\n\ndef test_long():\n    x = 4\n    y = half(x)\n    assert y == 2\n"
    acceptance = accept(
        workspace,
        MODULE,
        [CandidateTests("tests/test_long.py", long), CandidateTests("tests/test_short.py", GOOD)],
        baseline=baseline,
        mutation_budget_s=0,
    )
    assert list(acceptance.files) == ["tests/test_short.py"]
    assert rejections(acceptance) == [("test_long", "adds_nothing")]


def test_a_component_without_tests_gets_its_first(tmp_path: Path, component_python: Path) -> None:
    """The tests folder need not exist; importing alone counts once."""
    workspace = component(tmp_path, component_python)
    acceptance = accept(
        workspace,
        MODULE,
        [CandidateTests("tests/test_gen.py", GOOD)],
        baseline=run_suite(workspace),
        mutation_budget_s=0,
    )
    assert acceptance.files == {"tests/test_gen.py": GOOD}
    assert acceptance.coverage_before.percent == 0
    assert acceptance.coverage_after.covered_statements > 8
    assert not workspace.tests.exists()


def test_a_file_that_disturbs_the_components_own_tests(workspace: Workspace, baseline: SuiteReport) -> None:
    """What only importing it does to the others is found, too."""
    candidate = f"import calc.ops\ncalc.ops.add = None\n{GOOD}"
    acceptance = accept(
        workspace, MODULE, [CandidateTests("tests/test_a_gen.py", candidate)], baseline=baseline, mutation_budget_s=0
    )
    assert rejections(acceptance) == [("tests/test_a_gen.py", "disturbs")]
    assert "test_add" in acceptance.rejected[0].detail


def test_a_file_that_the_suite_would_not_run(workspace: Workspace, baseline: SuiteReport) -> None:
    """A name that pytest only takes when it is given it is no use."""
    candidate = CandidateTests("tests/checks.py", GOOD)
    acceptance = accept(workspace, MODULE, [candidate], baseline=baseline, mutation_budget_s=0)
    assert rejections(acceptance) == [("test_half", "not_collected")]


def test_rows_that_cannot_be_taken_out_stand_or_fall_together(workspace: Workspace, baseline: SuiteReport) -> None:
    """Computed rows are kept or dropped as a whole."""
    rows = "@pytest.mark.parametrize('n', range({}))\ndef test_{}(n):\n    assert {}\n"
    candidate = "import pytest\nfrom calc.ops import half, sign\n\n" + "\n\n".join(
        [rows.format(3, "sign", "sign(n) == bool(n)"), rows.format(3, "half", "half(2 * n) < 2")]
    )
    acceptance = accept(
        workspace, MODULE, [CandidateTests("tests/test_gen.py", candidate)], baseline=baseline, mutation_budget_s=0
    )
    assert [each.name for each in acceptance.accepted] == ["test_sign[0]", "test_sign[1]", "test_sign[2]"]
    assert dict(rejections(acceptance)) == {f"test_half[{n}]": "fails" for n in range(3)}


@pytest.mark.slow
def test_the_same_candidates_are_judged_the_same(workspace: Workspace, baseline: SuiteReport) -> None:
    """Twice the same verdict, to the byte."""
    source = CANDIDATE[: CANDIDATE.index("def test_registers")]
    first, second = (
        accept(workspace, MODULE, [CandidateTests("tests/test_gen.py", source)], baseline=baseline, mutation_budget_s=0)
        for _ in range(2)
    )
    assert first == second
    assert first.files


# -- text alone -------------------------------------------------------------------------------------------------------

ACCEPTABLE = {
    "assert": "assert f(1) == 1",
    "raises with match": "with pytest.raises(TypeError, match='x'):\n        f()",
    "raises what the module raises": "with pytest.raises(AttributeError):\n        f()",
    "warns": "with pytest.warns(UserWarning):\n        f()",
    "helper": "check(f(1))",
    "mock": "m = Mock()\n    f(m)\n    m.assert_called_once_with()",
    "unittest": "self.assertEqual(f(1), 1)",
    "numpy": "np.testing.assert_allclose(f(1), 1)",
    "method called skip": "assert parser.skip() == 1",
    "narrow except": "try:\n        assert f()\n    except KeyError:\n        pass",
    "address of the internet": "assert f('http://localhost:8080/tmp/x') == 1",
}
FAULTY = {
    "nothing": ("f(1)", "no_assertion"),
    "constant": ("f(1)\n    assert True", "no_assertion"),
    "tuple": ("assert (f(1) == 2, 'message')", "no_assertion"),
    "or true": ("assert f(1) or True", "no_assertion"),
    "itself": ("x = f(1)\n    assert x == x", "no_assertion"),
    "constant of unittest": ("f(1)\n    self.assertTrue(True)", "no_assertion"),
    "swallowed": ("try:\n        assert f(1)\n    except Exception:\n        pass", "no_assertion"),
    "swallowed bare": ("try:\n        assert f(1)\n    except:\n        pass", "no_assertion"),
    "empty helper": ("nothing(f(1))", "no_assertion"),
    "any error": ("with pytest.raises(Exception):\n        f()", "incidental_error"),
    "any type error": ("with pytest.raises((TypeError, ValueError, Exception)):\n        f()", "incidental_error"),
    "type error": ("with pytest.raises(TypeError):\n        f()", "incidental_error"),
    "skip": ("pytest.skip('no')\n    assert f()", "marker"),
    "address": ("assert repr(f()) == '<F at 0x7f3a9c2b1d30>'", "environment_literal"),
    "temporary": ("assert f() == '/tmp/tmpab12cd34/x'", "environment_literal"),
    "workspace": ("assert f() == '/srv/tree/x'", "environment_literal"),
}


def fault(body: str, decorator: str = "") -> str | None:
    helpers = "def check(x):\n    assert x\n\n\ndef nothing(x):\n    return x\n\n\n"
    file = TestFile(f"{helpers}{decorator}\ndef test_it(self=None):\n    {body}\n")
    found = StaticCheck(file, "raise AttributeError", ("/srv/tree",)).fault(file.functions["test_it"])
    return found.reason if found else None


@pytest.mark.parametrize("body", ACCEPTABLE.values(), ids=ACCEPTABLE)
def test_texts_that_may_be_run(body: str) -> None:
    """Assertions and expectations count in all their forms."""
    assert fault(body) is None


@pytest.mark.parametrize(("body", "reason"), FAULTY.values(), ids=FAULTY)
def test_texts_that_condemn_themselves(body: str, reason: str) -> None:
    """What cannot fail, or passes on any mistake, is no test."""
    assert fault(body) == reason


@pytest.mark.parametrize("marker", ["pytest.mark.xfail", "pytest.mark.skipif(True, reason='x')", "unittest.skip('x')"])
def test_markers_that_hide_failures(marker: str) -> None:
    """A test that may fail, or does not run, is no test."""
    assert fault("assert f()", f"@{marker}") == "marker"


LAYOUTS: dict[str, tuple[str, str]] = {
    "a line each": (
        "@pytest.mark.parametrize('n', [\n    1,\n    2,  # two\n    3,\n])\ndef test_a(n):\n    assert n\n",
        "@pytest.mark.parametrize('n', [\n    1,\n    3,\n])\ndef test_a(n):\n    assert n\n",
    ),
    "in one line": (
        "@pytest.mark.parametrize('n', ['ä', 'ö', 'ü'])\ndef test_a(n):\n    assert n\n",
        "@pytest.mark.parametrize('n', ['ä', 'ü'])\ndef test_a(n):\n    assert n\n",
    ),
    "rows over lines": (
        "@pytest.mark.parametrize('n', [\n  (\n    1\n  ),\n  [\n    2\n  ],\n  3,\n])\ndef test_a(n): pass\n",
        "@pytest.mark.parametrize('n', [\n  (\n    1\n  ),\n  3,\n])\ndef test_a(n): pass\n",
    ),
    "bracket on the first row": (
        "@pytest.mark.parametrize('n', [1,\n    2,\n    3])\ndef test_a(n):\n    assert n\n",
        "@pytest.mark.parametrize('n', [1, 3])\ndef test_a(n):\n    assert n\n",
    ),
}


@pytest.mark.parametrize(("source", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_taking_out_the_second_row(source: str, expected: str) -> None:
    """Whatever the layout, that row goes and the rest is as it was."""
    assert TestFile(f"import pytest\n\n{source}").without((), {"test_a": {1}}) == f"import pytest\n\n{expected}"


def test_taking_out_all_methods_takes_out_their_class() -> None:
    """No empty class is left behind."""
    source = "class TestA:\n    def test_a(self):\n        assert 1\n\n\ndef test_b():\n    assert 2\n"
    assert TestFile(source).without({"TestA::test_a"}) == "def test_b():\n    assert 2\n"
    assert TestFile(source).without({"TestA::test_a", "test_b"}) == ""


def test_the_fewest_names_cover_all_goals() -> None:
    """A name that a later choice makes needless goes again; of equals the cheaper one stays."""
    goals: dict[str, frozenset[object]] = {
        "wide": frozenset("abcd"),
        "left": frozenset("abe"),
        "right": frozenset("cdf"),
        "dear": frozenset("abe"),
    }
    cost: Callable[[str, frozenset[str]], int] = lambda name, _chosen: 9 if name == "dear" else 1  # noqa: E731
    assert cover(goals, cost) == ("left", "right")
    assert cover({}, cost) == ()


def test_a_tree_guard_sees_and_undoes_every_change(tmp_path: Path) -> None:
    """Changed, added, removed and replaced files, folders and links are all put back."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("changed", "removed", "sub/gone", "replaced", "now a folder"):
        (tree / name).write_text(name)
    (tree / "link").symlink_to("changed")
    before = contents(tree)
    ForeignTree(tree).copy_to(tmp_path / "pristine", max_bytes=1 << 20)
    guard = TreeGuard(tree, tmp_path / "pristine")
    (tree / "changed").write_text("CHANGED")
    (tree / "removed").unlink()
    (tree / "sub/gone").unlink()
    (tree / "sub").rmdir()
    (tree / "replaced").unlink()
    (tree / "replaced").symlink_to("changed")
    (tree / "new").mkdir()
    (tree / "new/file").write_text("new")
    (tree / "link").unlink()
    (tree / "now a folder").unlink()
    (tree / "now a folder").mkdir()
    (tree / "now a folder/file").touch()
    os.mkfifo(tree / "pipe")
    old = {"changed", "removed", "sub/gone", "replaced", "link", "now a folder"}
    assert set(guard.changes()) == old | {"new/file", "now a folder/file", "pipe"}
    guard.restore()
    assert contents(tree) == before
    assert guard.changes() == []
    assert (tree / "link").readlink() == Path("changed")
    assert not (tree / "new").exists()


def test_pruned_sources_still_parse() -> None:
    """Taking out every function in turn leaves valid Python."""
    file = TestFile(CANDIDATE)
    for key in file.functions:
        ast.parse(file.without({key}))
