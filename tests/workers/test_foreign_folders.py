"""Facts about what foreign code may leave behind: nothing outside is read or written, and nothing hangs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, Module, ModuleCoverage
from tta_tasks.protocols import CandidateTests, GenerationJob, Limits, Workspace
from workers.acceptance import AcceptanceResult, accept
from workers.acceptance.duplicates import existing_tests
from workers.acceptance.formatting import format_tests, merge_test_files
from workers.acceptance.placement import place_tests
from workers.acceptance.tree_guard import TreeGuard
from workers.component import imports, parsing, quality_tools
from workers.component.suite import run_suite
from workers.gates.findings import Findings
from workers.generators.characterize import CharacterizeGenerator
from workers.sandbox import ProcessSandbox

MODULE = Module(name="ops", path="ops.py")
COMPONENT = Component(name="calc", modules=(MODULE,))
OPS = "def sign(n):\n    if n < 0:\n        return -1\n    return 1\n"
#: Kinds of sources that no parser of ours may break on.
SOURCES = {
    "parentheses": "x = " + "(" * 50_000 + ")" * 50_000,
    "minus": "x = " + "-" * 50_000 + "1",
    "attributes": "x = a" + ".b" * 50_000,
    "deep enough for the parser": "def test_a():\n    assert " + "-" * 1000 + "1",
    "null bytes": "def test_a():\n    assert 1\0\n",
    "huge": "x = 1\n" * 1_000_000,
    "surrogate": "x = '\ud800'",
}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file outside that must stay what it is, in a folder of its own."""
    path = tmp_path / "outside" / "canary"
    path.parent.mkdir()
    path.write_text("canary")
    yield path
    assert path.read_text() == "canary"
    assert [each.name for each in path.parent.iterdir()] == ["canary"]


@pytest.fixture
def workspace(tmp_path: Path, component_python: Path) -> Iterator[Workspace]:
    """A component without tests, in a sandbox that keeps nobody from doing harm; removed however deep it gets."""
    (tmp_path / "work" / "tree").mkdir(parents=True)
    (tmp_path / "work" / "scratch").mkdir()
    (tmp_path / "work" / "tree" / "ops.py").write_text(OPS)
    (tmp_path / "work" / "tree" / "data").mkdir()
    yield Workspace(
        root=tmp_path / "work" / "tree",
        component=COMPONENT,
        python=component_python,
        sandbox=ProcessSandbox("process-group"),
        scratch=tmp_path / "work" / "scratch",
        limits=Limits(wall_s=40.0),
    )
    ForeignTree(tmp_path).remove("work")


# -- acceptance --------------------------------------------------------------------------------------------------------

HONEST = "\n\ndef test_z_minus():\n    assert ops.sign(-5) == -1\n"
DEEDS = {
    "links in place of tests": (
        "os.unlink(__file__); os.symlink({canary!r}, __file__); os.symlink({canary!r}, 'tests/conftest.py');"
        "os.rename('tests', 'old'); os.symlink(os.path.dirname({canary!r}), 'tests')"
    ),
    "a link in place of the module": "os.unlink('ops.py'); os.symlink({canary!r}, 'ops.py')",
    "a pipe in place of the module": "os.unlink('ops.py'); os.mkfifo('ops.py')",
    "folders that are forbidden": "os.chmod('data', 0); os.chmod('.', 0)",
    "folders without bottom": "[(os.mkdir('d'), os.chdir('d')) for _ in range(2000)]",
    "many files": "[open(f'file{{n}}', 'w').close() for n in range(21_000)]",
    "the copy to go back to": (
        "[open(p, 'w').write('def sign(n): return 7') for p in glob.glob('../scratch/*/*/ops.py')];"
        "open('ops.py', 'w').write('def sign(n): return 7')"
    ),
    "bytecode that is not checked against its source": (
        "file = importlib.util.cache_from_source(ops.__file__); os.makedirs(os.path.dirname(file), exist_ok=True);"
        "code = marshal.dumps(compile('def sign(n): return 7', 'ops.py', 'exec'));"
        "open(file, 'wb').write(importlib.util.MAGIC_NUMBER + (1).to_bytes(4, 'little') + bytes(8) + code)"
    ),
}


#: What `make test` tries, too; the others are of the same kinds, or run into a limit.
QUICK = {"a link in place of the module", "the copy to go back to"}


def deed(text: str, canary: Path) -> str:
    return (
        "import glob, importlib.util, marshal, os\nimport ops\n\n\n"
        f"def test_a():\n    assert ops.sign(3) == 1\n    {text.format(canary=str(canary))}\n{HONEST}"
    )


def judged(workspace: Workspace, source: str) -> AcceptanceResult:
    baseline = run_suite(workspace, paths=[])
    return accept(
        workspace, MODULE, [CandidateTests("tests/test_gen.py", source)], baseline=baseline, mutation_budget_s=0
    )


@pytest.mark.parametrize(
    "text",
    [pytest.param(text, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, text in DEEDS.items()],
)
def test_a_test_that_changes_the_tree_changes_neither_verdicts_nor_files(
    workspace: Workspace, canary: Path, text: str
) -> None:
    """The honest one beside it is judged as ever, and the tree is what it was."""
    result = judged(workspace, deed(text, canary))
    assert "test_z_minus" in [test.name for test in result.accepted]
    assert sorted(path.name for path in workspace.root.iterdir()) == ["data", "ops.py"]
    assert (workspace.root / "ops.py").read_text() == OPS


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_candidate_that_breaks_parsers_is_turned_down_in_plain_words(workspace: Workspace, source: str) -> None:
    """So is one that is nested more deeply than it can be looked at."""
    result = judged(workspace, source)
    assert [reject.reason for reject in result.rejected] == ["syntax"]
    assert merge_test_files("x = 1\n", source) is None


def test_existing_tests_are_read_through_the_one_door(workspace: Workspace, canary: Path) -> None:
    """Pipes, devices, links and what does not parse have no tests; the others do."""
    tests = workspace.tests
    tests.mkdir()
    canary.write_text(good := "def test_a():\n    assert 1 + 1 == 2\n")
    (tests / "test_good.py").write_text(good)
    (tests / "test_link.py").symlink_to(canary)
    (tests / "test_zero.py").symlink_to("/dev/zero")
    (tests / "away").symlink_to(canary.parent)
    os.mkfifo(tests / "test_pipe.py")
    for number, source in enumerate(SOURCES.values()):
        (tests / f"test_{number}.py").write_text(source, errors="surrogatepass")
    found = existing_tests(ForeignTree(workspace.root), PurePosixPath("tests"))
    assert list(found.values()) == ["test_good.py::test_a"]
    canary.write_text("canary")


def test_tests_are_formatted_nowhere_else(workspace: Workspace, canary: Path) -> None:
    """A folder of tests that is a link is not written through."""
    workspace.tests.symlink_to(canary.parent)
    with pytest.raises(OSError, match=r"no folder|symbolic link"):
        format_tests(workspace, {"tests/test_x.py": "def test_a(): assert 1\n"})


def test_tests_are_placed_by_what_is_in_the_tree(workspace: Workspace, canary: Path) -> None:
    """Files behind a link are nobody's habit."""
    (canary.parent / "a_test.py").touch()
    workspace.tests.symlink_to(canary.parent)
    assert place_tests(ForeignTree(workspace.root), COMPONENT, MODULE, "x") == "tests/test_ops_x.py"
    (canary.parent / "a_test.py").unlink()


def test_a_candidate_does_not_go_through_a_link_of_the_repository(workspace: Workspace) -> None:
    """Not even one that stays in the tree."""
    (workspace.root / "elsewhere").mkdir()
    workspace.tests.symlink_to("elsewhere")
    result = judged(workspace, "import ops\n\n\ndef test_a():\n    assert ops.sign(3) == 1\n")
    assert [(reject.reason, reject.detail) for reject in result.rejected] == [
        ("path", "leads through a link or a file")
    ]


def test_a_guard_puts_back_folders_and_what_tools_keep(tmp_path: Path) -> None:
    """Modes of folders, empty folders, caches: all are as they were, though they say nothing of a test."""
    pristine, root = tmp_path / "pristine", tmp_path / "tree"
    (pristine / "sub").mkdir(parents=True)
    (pristine / "sub" / "file").write_text("1")
    ForeignTree(pristine).copy_to(root, max_bytes=100)
    guard = TreeGuard(root, pristine)
    (root / "sub").chmod(0o777)
    (root / "empty").mkdir()
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").touch()
    assert guard.changes() == []
    guard.restore()
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == ["sub", "sub/file"]
    assert (root / "sub").stat().st_mode & 0o777 != 0o777


# -- the search --------------------------------------------------------------------------------------------------------

CALL = '{"template": "sign({args})", "arguments": [], "statement": false}'
CASE = (
    f'{{"target": "sign", "call": {CALL}, "receiver": "", "history": [], "assertions": [], "raises": "TypeError",'
    ' "message": "", "imports": [], "features": []}'
)
HEAD = "import os, pathlib\nfolder = pathlib.Path(os.getcwd()).parent\njournal = folder / 'journal'\n"
SEARCHES = {
    "cases of other shapes": (
        "lines = ['[]', '1', 'null', '{}', '[' * 100_000, '{\"target\": 1}', CASE.replace('[]', '7'),"
        " CASE.replace('\"sign\"', '{\"a\": 1}'), CASE.replace('TypeError', 'x' * 300_000), 'NaN', '\\ud800' ]\n"
        "(folder / 'kept.jsonl').write_text('\\n'.join(lines), errors='replace')\n"
        "(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "cases that multiply": (
        "big = CASE.replace('\"arguments\": []', '\"arguments\": [' + ','.join("
        '\'{"name": "a", "source": "\\\'\' + (\'{%d}\' % (n + 1)) * 2000 + \'\\\'", "style": "positional"}\''
        " for n in range(20)) + ']')\n"
        "(folder / 'kept.jsonl').write_text(big)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "cases that parsers break on": (
        'deep = CASE.replace(\'"arguments": []\', \'"arguments": [{"name": "a", "source": "\' + \'-\' * 9000'
        ' + \'1", "style": "*"}]\')\n'
        "(folder / 'kept.jsonl').write_text(deep)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "cases elsewhere": (
        "(folder / 'kept.jsonl').symlink_to(CANARY)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "cases without end": (
        "(folder / 'kept.jsonl').symlink_to('/dev/zero')\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "a pipe for a journal": "journal.unlink()\nos.mkfifo(journal)\nos._exit(1)\n",
    "no journal": "journal.unlink()\nos._exit(1)\n",
    "a journal elsewhere": "journal.unlink()\njournal.symlink_to(CANARY)\nos._exit(1)\n",
    "another reason": "(folder / 'failed.json').write_text('[1]')\nos._exit(1)\n",
    "a pipe for a reason": "os.mkfifo(folder / 'failed.json')\nos._exit(1)\n",
    "the next job is a link": (
        "job = folder / 'explore.json'\njob.unlink()\njob.symlink_to(CANARY)\n"
        "journal.unlink()\njournal.write_text('sign\\tsign(1)')\nos._exit(1)\n"
    ),
    "the folder is a link": (
        "folder.rename(folder.with_name('gone'))\nfolder.symlink_to(os.path.dirname(CANARY))\nos._exit(1)\n"
    ),
    "what held is of another shape": (
        "if (folder / 'cases.jsonl').exists():\n"
        "    (folder / 'held.json').write_text('[1000000000, -1, \"0\", true, null, 1e99]')\n    os._exit(0)\n"
        "(folder / 'kept.jsonl').write_text(CASE)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "what held is elsewhere": (
        "if (folder / 'cases.jsonl').exists():\n    (folder / 'held.json').symlink_to(CANARY)\n    os._exit(0)\n"
        "(folder / 'kept.jsonl').write_text(CASE)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "what held is a pipe": (
        "if (folder / 'cases.jsonl').exists():\n    os.mkfifo(folder / 'held.json')\n    os._exit(0)\n"
        "(folder / 'kept.jsonl').write_text(CASE)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "a number that is none": (
        "if (folder / 'cases.jsonl').exists():\n"
        "    journal.unlink()\n    journal.write_text('\\u00b2')\n    os._exit(1)\n"
        "(folder / 'kept.jsonl').write_text(CASE)\n(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
    "the cases are a link": (
        "if (folder / 'cases.jsonl').exists():\n"
        "    cases = folder / 'cases.jsonl'\n    cases.unlink()\n    cases.symlink_to(CANARY)\n"
        "    journal.unlink()\n    journal.write_text('0')\n    os._exit(1)\n"
        'more = CASE.replace(\'"arguments": []\', \'"arguments": [{"name": "a", "source": "1"}]\')\n'
        "(folder / 'kept.jsonl').write_text(CASE + '\\n' + more)\n"
        "(folder / 'done.json').write_text('{}')\nos._exit(0)\n"
    ),
}


@pytest.mark.parametrize("text", SEARCHES.values(), ids=SEARCHES)
def test_a_module_that_answers_for_the_search_gets_no_further(workspace: Workspace, canary: Path, text: str) -> None:
    """The engine proposes tests, or none, or gives up in plain words; it neither breaks nor hangs."""
    (workspace.root / "ops.py").write_text(f"{HEAD}CANARY, CASE = {str(canary)!r}, {CASE!r}\n{text}")
    coverage = ModuleCoverage(path=MODULE.path, statements=9, covered_statements=0, branches=0, covered_branches=0)
    job = GenerationJob(workspace, MODULE, coverage, 100.0, (), "tests/test_gen.py", budget_s=100, seed=0)
    with suppress(EngineFailed):
        assert all("canary" not in each.source for each in CharacterizeGenerator().generate(job))


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: (path.unlink(), path.symlink_to("/dev/zero"))])
def test_a_module_that_cannot_be_read_is_told_of(workspace: Workspace, spoil: Callable[[Path], object]) -> None:
    """In plain words."""
    spoil(workspace.root / "ops.py")
    coverage = ModuleCoverage(path=MODULE.path, statements=9, covered_statements=0, branches=0, covered_branches=0)
    job = GenerationJob(workspace, MODULE, coverage, 100.0, (), "tests/test_gen.py", budget_s=1, seed=0)
    with pytest.raises(EngineFailed, match="ops cannot be read"):
        CharacterizeGenerator().generate(job)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_module_that_breaks_parsers_is_told_of(workspace: Workspace, source: str) -> None:
    """In plain words, where the parser gives up; the search goes on where only we would."""
    (workspace.root / "ops.py").write_text(source, errors="surrogatepass")
    coverage = ModuleCoverage(path=MODULE.path, statements=9, covered_statements=0, branches=0, covered_branches=0)
    job = GenerationJob(workspace, MODULE, coverage, 100.0, (), "tests/test_gen.py", budget_s=1, seed=0)
    with suppress(EngineFailed):
        CharacterizeGenerator().generate(job)


# -- tools and imports -------------------------------------------------------------------------------------------------


def test_configuration_is_read_through_the_one_door(workspace: Workspace, canary: Path) -> None:
    """What cannot be had so configures nothing."""
    canary.write_text("[tool.ruff]\n[mypy]\n")
    root = workspace.root
    (root / "pyproject.toml").symlink_to(canary)
    (root / "ruff.toml").symlink_to(canary)
    os.mkfifo(root / ".pre-commit-config.yaml")
    (root / "setup.cfg").symlink_to("/dev/zero")
    (root / "setup.py").symlink_to("/dev/zero")
    assert not quality_tools.ruff_configured(workspace)
    assert not quality_tools.names_hook(workspace, root, "black")
    assert not quality_tools.has_section(workspace, root / "setup.cfg", "mypy")
    assert quality_tools.minimal_python(workspace) == quality_tools.ASSUMED_PYTHON
    canary.write_text("canary")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a" + ".a" * 100_000 + " = 1",
        "a = '" + "x" * (1 << 20) + "'",
        "tool = 1",
        "[tool]\nruff = 3",
    ],
    ids=["deep", "dotted", "long", "tool", "table"],
)
def test_hostile_toml_configures_nothing(workspace: Workspace, text: str) -> None:
    """Within a moment."""
    (workspace.root / "pyproject.toml").write_text(text)
    assert quality_tools.pyproject_tools(workspace, workspace.root) == {}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_hostile_setup_py_requires_nothing(workspace: Workspace, source: str) -> None:
    """Whatever is in it."""
    (workspace.root / "setup.py").write_text(source, errors="surrogatepass")
    assert quality_tools.minimal_python(workspace) == quality_tools.ASSUMED_PYTHON


def test_findings_of_files_elsewhere_have_no_text(workspace: Workspace, canary: Path) -> None:
    """What a tool names need not be in the tree; it is not opened then, whatever it is."""
    os.mkfifo(canary.parent.parent / "pipe")
    (workspace.root / "link.py").symlink_to(canary)
    findings = Findings(workspace)
    for name in (str(canary), "../../outside/canary", "../../pipe", "/dev/zero", "link.py", "a\0b", "missing.py"):
        assert findings.at(name, 1, "X1", "bad").text == ""
    for name in ("ops.py", "./tests/../ops.py", str(workspace.root / "ops.py")):
        assert findings.at(name, 1, "X1", "bad").path == "ops.py"
        assert findings.at(name, 1, "X1", "bad").text == "defsign(n):"


def test_no_file_name_is_an_option(workspace: Workspace) -> None:
    """A test file may be called like one."""
    assert quality_tools.names(workspace, [workspace.root / "--fix_test.py"]) == ["./--fix_test.py"]


def test_modules_are_regular_files_reached_through_no_link(workspace: Workspace, canary: Path) -> None:
    """A module, or a folder on the way to it, that has become a link is none of the component's files."""
    (workspace.root / "sub").symlink_to(canary.parent)
    modules = (MODULE, Module(name="sub.canary", path="sub/canary"))
    work = replace(workspace, component=Component(name="calc", modules=modules))
    assert quality_tools.source_files(work) == [workspace.root / "ops.py"]
    (workspace.root / "ops.py").unlink()
    (workspace.root / "ops.py").symlink_to(canary)
    assert quality_tools.source_files(work) == []


def test_imports_are_followed_through_no_link(workspace: Workspace, canary: Path) -> None:
    """Nor do pipes, devices, or sources that break parsers import anything."""
    root, tests = workspace.root, workspace.tests
    tests.mkdir()
    canary.write_text("import ops\n")
    (root / "linked.py").symlink_to(canary)
    (tests / "test_link.py").symlink_to(canary)
    (tests / "away").symlink_to(canary.parent)
    (tests / "test_zero.py").symlink_to("/dev/zero")
    os.mkfifo(tests / "test_pipe.py")
    for number, source in enumerate(SOURCES.values()):
        (tests / f"test_{number}.py").write_text(source, errors="surrogatepass")
    (tests / "test_good.py").write_text("import ops\n")
    tree = ForeignTree(root)
    assert imports.importers(tree, tests, {root / "ops.py"}, root) == {tests / "test_good.py"}
    (root / "ops.py").write_text("import linked\n")
    assert imports.import_closure(tree, root / "ops.py", root) == {root / "ops.py"}
    canary.write_text("canary")


@pytest.mark.slow
def test_packages_that_pass_on_from_one_to_the_next_are_followed_to_the_end(workspace: Workspace) -> None:
    """However many there are."""
    count = 2 * sys.getrecursionlimit()
    for number in range(count):
        folder = workspace.root / f"p{number}"
        folder.mkdir()
        (folder / "__init__.py").write_text(f"from p{number + 1} import x\n" if number < count - 1 else "import ops\n")
    workspace.tests.mkdir()
    (workspace.tests / "test_first.py").write_text("from p0 import x\n")
    last = workspace.root / f"p{count - 1}" / "__init__.py"
    found = imports.importers(ForeignTree(workspace.root), workspace.tests, {last}, workspace.root)
    assert found == {workspace.tests / "test_first.py"}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_parsing_fails_in_one_way(source: str) -> None:
    """Whatever is wrong is a SyntaxError, with a reason."""
    with pytest.raises(SyntaxError, match=r"."):
        parsing.shallow(parsing.python(source))
