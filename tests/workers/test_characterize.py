"""The embedded generator, on small modules of its own and hostile ones, in the real sandbox."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tta_tasks.errors import EngineFailed
from tta_tasks.models import Component, Criterion, Module, ModuleCoverage
from tta_tasks.protocols import CandidateTests, GenerationJob, Generator, Workspace
from workers.generators.characterize import CharacterizeGenerator
from workers.generators.characterize.naming import describe
from workers.generators.characterize.program.case import Argument, Assertion, Call, Case
from workers.generators.characterize.program.examples import Example, from_text
from workers.generators.characterize.program.infer import kinds_of_annotation, kinds_of_use
from workers.generators.characterize.program.names import Names
from workers.generators.characterize.program.source import statements
from workers.generators.characterize.program.source_repr import source_repr
from workers.generators.characterize.selection import select
from workers.sandbox import detect_sandbox

DATA = Path(__file__).parents[1] / "data" / "characterize"

Generate = Callable[..., Sequence[CandidateTests]]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat project of the sample modules."""
    root = tmp_path_factory.mktemp("characterize") / "project"
    shutil.copytree(DATA, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="session")
def generate(project: Path, component_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Generate:
    """Runs the engine on a module of the project."""
    sandbox = detect_sandbox()

    def run(
        name: str, *, budget_s: float = 4.0, missing: tuple[int, ...] = (), round_: int = 1, text: str = ""
    ) -> Sequence[CandidateTests]:
        module = Module(name=name, path=f"{name}.py")
        component = Component(name="sample", modules=(module,))
        scratch = tmp_path_factory.mktemp("scratch")
        coverage = ModuleCoverage(
            path=module.path, statements=10, covered_statements=0, branches=0, covered_branches=0, missing_lines=missing
        )
        job = GenerationJob(
            workspace=Workspace(
                project, component, component_python, sandbox, scratch, readable=(component_python.parents[1],)
            ),
            module=module,
            coverage=coverage,
            coverage_threshold=80.0,
            criteria=(Criterion(id="AC1", text=text),) if text else (),
            output_path=f"tests/test_{name}.py",
            budget_s=budget_s,
            seed=0,
            round=round_,
        )
        return CharacterizeGenerator().generate(job)

    return run


@pytest.fixture(scope="session")
def shop(generate: Generate) -> CandidateTests:
    """The tests of the module of many kinds of things."""
    (candidate,) = generate("shop", budget_s=30, text="`Stack.pop` takes what was pushed last; greet is friendly.")
    return candidate


def run_pytest(python: Path, project: Path, source: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run generated tests in a folder of their own."""
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def names_of(source: str) -> list[str]:
    """Test functions of a file, in order."""
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def test_is_a_generator() -> None:
    """The engine fulfils the protocol, and works on every host."""
    engine = CharacterizeGenerator()
    assert isinstance(engine, Generator)
    assert (engine.name, engine.available()) == ("characterize", "")


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONHASHSEED": "11", "TZ": "Asia/Tokyo"},
        pytest.param({"PYTHONHASHSEED": "12", "TZ": "UTC"}, marks=pytest.mark.slow),
    ],
)
def test_generated_tests_pass_anywhere(
    shop: CandidateTests, component_python: Path, project: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    """What is proposed passes under another hash seed and time zone, and leaves no file behind."""
    done = run_pytest(component_python, project, shop.source, tmp_path, **env)
    assert done.returncode == 0, done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["test_it.py"]


def test_every_kind_of_behaviour_is_pinned(shop: CandidateTests) -> None:
    """Results, errors, iterators, coroutines, output, files, contexts, changed arguments and state: each has a test."""
    for expected in (
        'match="limit must be positive"',
        'with pytest.raises(OutOfStock, match="the stack is empty")',
        "stack.push(",
        "asyncio.run(later(",
        "capsys.readouterr().out ==",
        "count_lines(sample) == 2",
        "with opened(",
        "assert items == [1, 2, 3]",
        "list(countdown(start)) == expected",
        "price_of(Colour.RED, ",
    ):
        assert expected in shop.source


def test_what_cannot_be_repeated_is_not_pinned(shop: CandidateTests) -> None:
    """The date, the time, chance and the command line are found out; private functions are left alone."""
    for name in ("today", "stamp", "lucky", "command_line", "_private"):
        assert f"{name}(" not in shop.source


def test_the_file_says_what_it_is(shop: CandidateTests) -> None:
    """Its docstring says that the tests pin behaviour and do not judge it; names are unique; the path is the job's."""
    docstring = ast.get_docstring(ast.parse(shop.source)) or ""
    assert "not a judgement" in docstring
    assert len(set(names_of(shop.source))) == len(names_of(shop.source)) > 15
    assert shop.path == "tests/test_shop.py"


def test_criteria_are_matched_by_the_names_they_mention(shop: CandidateTests) -> None:
    """A criterion that names a method or a function is spoken to by the tests of these alone."""
    assert shop.criteria["test_greet_prints_text_for_hello"] == ("AC1",)
    assert any(name.startswith("test_stack_pop") for name in shop.criteria)
    assert not any("mean" in name for name in shop.criteria)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file(generate: Generate) -> None:
    """With the same seed and enough time, two runs propose the same."""
    assert generate("acts")[0].source == generate("acts")[0].source


def test_missing_lines_are_aimed_at(generate: Generate, project: Path) -> None:
    """In a later round only what leads to the missing lines is called."""
    lines = (project / "shop.py").read_text(encoding="utf-8").splitlines()
    wanted = lines.index('        raise ValueError("no numbers")') + 1
    (candidate,) = generate("shop", missing=(wanted,), round_=2, budget_s=30)
    assert {name.split("_")[1] for name in names_of(candidate.source)} == {"mean"}


def test_acting_on_import_is_survived(
    generate: Generate, component_python: Path, project: Path, tmp_path: Path
) -> None:
    """A module that prints, writes and starts programs when imported still gets its tests."""
    (candidate,) = generate("acts")
    assert "(21, 42)" in candidate.source
    assert run_pytest(component_python, project, candidate.source, tmp_path).returncode == 0


def test_nothing_public_means_no_tests(generate: Generate) -> None:
    """A module that offers nothing to call gets no file, and that is no failure."""
    assert generate("empty") == []


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("exits", "exits cannot be imported: SystemExit: needs a terminal"),
        ("needs", "needs cannot be imported: ModuleNotFoundError: No module named 'no_such_library_anywhere'"),
        ("broken", r"broken does not parse: .*line 1"),
    ],
)
def test_a_module_that_cannot_be_imported_is_said_so(generate: Generate, module: str, reason: str) -> None:
    """Each such fault is one line that names the reason, with a hint."""
    with pytest.raises(EngineFailed, match=reason) as caught:
        generate(module)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.slow
def test_hostile_code_neither_escapes_nor_ends_the_search(generate: Generate, project: Path) -> None:
    """Calls that kill, hang, fork, write, print 200 MB or crash are dropped; the harmless ones around them are kept."""
    (candidate,) = generate("hostile", budget_s=30.0)
    tree = ast.parse(candidate.source)
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert {"fine", "crash"} <= called
    denied = {"leave", "kill", "spawn", "write", "write_up", "spin", "stubborn", "sleepy", "thread", "environ", "deep"}
    assert not denied & called
    assert 'crash("a' not in candidate.source
    assert not list(project.rglob("escaped.txt"))


# -- its parts ---------------------------------------------------------------------------------------------------------


def test_literal_gives_back_what_it_was_given() -> None:
    """An expression evaluates to an equal value; what has none gives ``None``."""
    names = Names(sys.modules[__name__])
    values: list[object] = [None, -1, 1.5, "a'b", b"\xff", [1, (2,)], {"a": {1, 2}}, frozenset(), range(3), ()]
    for value in values:
        source = source_repr(value, names)
        assert source is not None
        assert eval(source) == value  # noqa: S307 - an expression of ours
    assert source_repr(object(), names) is None
    assert source_repr("/home/somebody/x", names, ("/home/somebody",)) is None


def test_statements_of_a_comparison_are_never_chained() -> None:
    """``a == b is False`` would be another question: the comparison is asserted as such."""
    call = Call("{self} == {0}", (Argument("other", "lambda x: x"),))
    case = Case("Box.__eq__", call, "Box()", assertions=(Assertion("is", "{result}", "False"),))
    assert statements(case) == ["assert not (Box() == (lambda x: x))"]


def test_cases_survive_the_journey_as_json() -> None:
    """A case written by the program is the same when the worker reads it."""
    call = Call("{self}.push({args})", (Argument("item", "1"),))
    case = Case(
        "Stack.push", call, "Stack()", (call,), (Assertion("equal", "{result}", "2"),), imports=(("Stack", "x"),)
    )
    assert Case.from_json(case.to_json()) == case


def test_selection_keeps_the_plain_ones() -> None:
    """Of two cases that reach the same, the plainer one is kept; another outcome is kept as well."""
    long, short, other = (
        Case(
            "f",
            Call("f({args})", (Argument("x", text),)),
            assertions=(Assertion("equal", "{result}", out),),
            features=("1",),
        )
        for text, out in (("[1, 2, 3, 4]", "1"), ("1", "1"), ("22", "2"))
    )
    assert select([long, short, other]) == [short, other]


def test_examples_are_read_from_prose() -> None:
    """Calls in docstrings are found, with the values of names assigned before."""
    text = ">>> items = [3, 1]\n>>> first(items, key=len)\n1\n"
    assert Example("first", ("[3, 1]",), (("key", "len"),)) in list(from_text(text))


def test_kinds_are_guessed_from_annotation_and_use() -> None:
    """Annotations name the kind, also those that only type checkers can resolve; without, the body tells."""
    assert kinds_of_annotation("int | None", {}) == ["int", "none"]
    assert kinds_of_annotation("te.Missing[str]", {}) == ["instance:te", "instance:Missing"]
    function = ast.parse("def f(x):\n    return x.lower().strip()").body[0]
    assert kinds_of_use(function, "x")[0] == "str"


@pytest.mark.parametrize(
    ("source", "words"),
    [("''", "empty_string"), ("'Hello World'", "hello_world"), ("-3", "negative_number"), ("lambda x: x", "")],
)
def test_arguments_are_described_in_words(source: str, words: str) -> None:
    """Names of tests speak of what is passed."""
    assert describe(source) == words
