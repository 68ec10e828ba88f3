"""Facts about mutants: which faults are made, and which tests they keep."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tta_tasks.models import Component, Module, SuiteReport
from tta_tasks.protocols import CandidateTests, Workspace
from workers.acceptance import AcceptanceResult, accept
from workers.component.suite import run_suite
from workers.probe.mutants import mutants
from workers.sandbox import ProcessSandbox

FAULTS = {
    "return a + b": {"return a - b", "return None"},
    "return a <= b": {"return a < b", "return None"},
    "return a is None": {"return a is not None", "return None"},
    "return a and b": {"return a or b", "return None"},
    "return not a": {"return a", "return None"},
    "return -a": {"return a", "return None"},
    "return 7": {"return 8", "return None"},
    "return True": {"return False", "return None"},
    "return 'x'": {"return 'XXx'", "return None"},
    "return None": set(),
    "a += 1": {"pass", "a -= 1", "a += 2"},
    "raise KeyError(a)": {"pass"},
    "a.append(b)": {"pass"},
    "if a: b()": {"if not a:\n    b()", "if a:\n    pass"},
    "x = a if b else c": {"x = a if not b else c"},
    "while a: break": {"while a:\n    continue"},
    "x = f'{a}'": set(),
    "import os": set(),
    "'''doc'''": set(),
    "x: int = a": set(),
    "x = lambda y=1: y * a": {"x = lambda y=1: y / a"},
}


def faulty(source: str) -> list[str]:
    tree = ast.parse(source)
    texts = []
    for mutant in mutants(tree):
        original = ast.unparse(tree)
        mutant.compile(tree, "module.py")
        assert ast.unparse(tree) == original  # it put the tree back
        texts.append(_with(tree, mutant))
    return texts


def _with(tree: ast.Module, mutant: object) -> str:
    """The source with the mutant in it."""
    texts: list[str] = []

    def spy(node: ast.Module, *_: object, **__: object) -> None:
        texts.append(ast.unparse(node))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.compile", spy)
        mutant.compile(tree, "module.py")  # type: ignore[attr-defined]
    return texts[0]


@pytest.mark.parametrize(("statement", "expected"), FAULTS.items(), ids=FAULTS)
def test_faults_of_a_statement(statement: str, expected: set[str]) -> None:
    """Each statement has the faults that make sense there, and no others."""
    source = f"def f(a, b, c):\n    {statement}"
    bodies = {ast.unparse(ast.parse(text).body[0].body) for text in faulty(source)}  # type: ignore[attr-defined]
    assert bodies == {ast.unparse(ast.parse(text)) for text in expected}


def test_only_bodies_of_functions_are_mutated() -> None:
    """What runs on import, defaults, decorators and annotations is left alone."""
    source = "LIMIT = 1 + 1\n\n\n@cache(1)\ndef f(a=1 + 1) -> 1:\n    pass\n\n\nclass A:\n    x = 1\n\n    y = 2 + 2\n"
    assert faulty(source) == []


def test_lines_are_those_of_the_statement() -> None:
    """A fault in a later line of a statement counts for its first line, as coverage does."""
    (mutant,) = mutants(ast.parse("def f(a, b):\n    x = (\n        a +\n        b\n    )\n"))
    assert mutant.line == 2


LIMITS = """\
import functools


def remembered(function):
    @functools.wraps(function)
    def wrapper(n):
        return function(n)
    return wrapper


def grade(n):
    return "high" if n >= 10 else "low"


@remembered
def scaled(n):
    return n * 10 + 1


class Counter:
    def __init__(self):
        self.n = 0

    @property
    def next(self):
        self.n += 1
        return self.n


def forever(n):
    while n > 0:
        n -= 1
    return n
"""
MODULE = Module(name="limits", path="limits.py")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, component_python: Path) -> Workspace:
    """A single module whose every line its one weak test file executes."""
    folder = tmp_path_factory.mktemp("mutation")
    (folder / "tree/tests").mkdir(parents=True)
    (folder / "scratch").mkdir()
    (folder / "tree/limits.py").write_text(LIMITS)
    (folder / "tree/tests/test_limits.py").write_text(
        "import limits\n\n\ndef test_weak():\n"
        "    assert limits.grade(50) == 'high' and limits.grade(1) == 'low'\n"
        "    assert limits.scaled(0) > 0\n    assert limits.Counter().next\n    assert limits.forever(2) == 0\n"
    )
    return Workspace(
        root=folder / "tree",
        component=Component(name="limits", modules=(MODULE,)),
        python=component_python,
        sandbox=ProcessSandbox("process-group"),
        scratch=folder / "scratch",
    )


@pytest.fixture(scope="module")
def baseline(workspace: Workspace) -> SuiteReport:
    """Its suite."""
    return run_suite(workspace)


STRONGER = """\
import limits


def test_boundary():
    assert limits.grade(10) == "high"


def test_far_from_it():
    assert limits.grade(60) == "high"


def test_scaled():
    assert limits.scaled(3) == 31


def test_counter():
    assert limits.Counter().next == 1


def test_forever():
    assert not limits.forever(2)
"""


@pytest.fixture(scope="module")
def judged(workspace: Workspace, baseline: SuiteReport) -> AcceptanceResult:
    """Tests that add no coverage, some of which notice more than the one that is there."""
    candidate = CandidateTests("tests/test_stronger.py", STRONGER)
    return accept(workspace, MODULE, [candidate], baseline=baseline, mutation_budget_s=60)


def test_a_test_stays_for_a_mutant_that_nothing_else_notices(judged: AcceptanceResult) -> None:
    """Plain functions, decorated ones and properties are mutated; who notices nothing new goes."""
    assert judged.coverage_before.percent == 100
    noticing = ("test_boundary", "test_scaled", "test_counter")
    assert {each.name: each.reason for each in judged.accepted} == dict.fromkeys(noticing, "mutant")
    assert {each.name: each.reason for each in judged.rejected} == {
        "test_far_from_it": "adds_nothing",
        "test_forever": "adds_nothing",
    }


def test_the_score_counts_mutants_that_were_noticed(judged: AcceptanceResult) -> None:
    """Endless loops count as noticed; not every mutant is."""
    assert 10 < judged.mutants_killed < judged.mutants_tried


def test_without_a_budget_only_coverage_counts(workspace: Workspace, baseline: SuiteReport) -> None:
    """No mutant is tried, and what adds no coverage goes."""
    candidate = CandidateTests("tests/test_stronger.py", STRONGER)
    acceptance = accept(workspace, MODULE, [candidate], baseline=baseline, mutation_budget_s=0)
    assert (acceptance.accepted, acceptance.mutants_tried) == ((), 0)
