"""The gates hold a tree against its thresholds; only what is new counts, and a tool that fails is a verdict, too."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from tta_tasks import plugins
from tta_tasks.errors import UnknownEngine
from tta_tasks.models import (
    DEFAULT_GATES,
    Component,
    GateOutcome,
    Gates,
    Module,
    ModuleCoverage,
    SuiteReport,
    Target,
    TestFailure,
)
from tta_tasks.protocols import GateJob, Workspace
from workers.gates import judge, load
from workers.gates.findings import Finding, new
from workers.sandbox import detect_sandbox

STRICT = Gates(coverage=80, lint=True, types=True, security=True)
REPORTED = Gates(coverage=80)
COVERED = SuiteReport(
    passed=4,
    coverage=(ModuleCoverage(path="demo.py", statements=90, covered_statements=80, branches=10, covered_branches=2),),
)
OLD = "import os\n\n\ndef run(text: str) -> int:\n    return eval(text)\n"

Judge = Callable[..., dict[str, GateOutcome]]


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    """Judges a tree, given as files, against a baseline."""

    def verdicts(
        before: Mapping[str, str],
        after: Mapping[str, str],
        *,
        gates: Gates = STRICT,
        suite: SuiteReport = COVERED,
        tests: tuple[str, ...] = (),
        python: Path = Path(sys.executable),
    ) -> dict[str, GateOutcome]:
        for name, files in (("before", before), ("after", after)):
            for path, text in files.items():
                (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / path).write_text(text)
        (tmp_path / "scratch").mkdir()
        component = Component(name="demo", modules=(Module(name="demo", path="demo.py"),))
        sandbox, readable = detect_sandbox(), (python.parents[1],)
        tree = Workspace(tmp_path / "after", component, python, sandbox, tmp_path / "scratch", readable=readable)
        baseline = replace(tree, root=tmp_path / "before")
        return {gate.name: gate for gate in judge(GateJob(tree, baseline, suite, gates, tests))}

    return verdicts


#: A tree that each gate fails on: its files, and what its suite gave.
FAILING: dict[str, tuple[dict[str, str], SuiteReport]] = {
    "pass_rate": ({"demo.py": ""}, COVERED.model_copy(update={"failed": 1})),
    "coverage": ({"demo.py": ""}, SuiteReport(passed=1)),
    "lint": ({"demo.py": OLD}, COVERED),
    "types": ({"demo.py": "x: int = ''\n", "mypy.ini": "[mypy]\n"}, COVERED),
    "security": ({"demo.py": OLD}, COVERED),
}


def test_the_gates_are_the_fields_of_the_plan_and_the_entry_points() -> None:
    """Each field has a gate and each gate a field, with its default for every target; the order is the model's."""
    assert [gate.name for gate in load(Gates())] == list(Gates.names())
    own = [entry.name for entry in distribution("tta-tasks").entry_points if entry.group == plugins.GATES]
    assert sorted(own) == sorted(Gates.names()) == sorted(FAILING)
    assert DEFAULT_GATES[Target.DEV] == Gates()
    assert set(DEFAULT_GATES) == set(Target)


@pytest.mark.parametrize("name", Gates.names())
def test_a_gate_that_fails_says_what_to_do(judged: Judge, name: str) -> None:
    """Each gate can fail, under its own name, and then has a remedy; one that did not fail has none."""
    files, suite = FAILING[name]
    gates = Gates(lint=True, types=True, security=True)
    verdicts = judged({"demo.py": ""}, files, suite=suite, gates=gates)
    assert verdicts[name].name == name
    assert verdicts[name].outcome == "failed"
    assert verdicts[name].detail
    assert all(bool(verdict.remedy) == (verdict.outcome == "failed") for verdict in verdicts.values())


@pytest.mark.usefixtures("words_gate")
def test_a_package_adds_a_gate(judged: Judge) -> None:
    """An entry point is enough: it comes after the project's own, without a threshold or with the component's."""
    assert list(judged({"demo.py": ""}, {"demo.py": ""})) == [*Gates.names(), "words"]


@pytest.mark.usefixtures("words_gate")
@pytest.mark.parametrize(
    ("threshold", "outcome", "said"),
    [
        ({"banned": ["magic"]}, "failed", "has magic"),
        ({"asked": ["magic"]}, "parked", "has words"),
        ("no table", "failed", "words is no table. Write one."),
        (False, "reported", "words is no table. Write one."),
        ("a fault", "failed", "it raised LookupError: unforeseen"),
    ],
)
def test_a_gate_of_a_package_has_the_components_threshold(
    judged: Judge, threshold: JsonValue, outcome: str, said: str
) -> None:
    """It fails, asks for a person, or breaks; what breaks stops the run unless the component only wants a report."""
    gates = Gates(coverage=80, plugins={"words": threshold})
    verdict = judged({"demo.py": ""}, {"demo.py": "magic = 1\n"}, gates=gates)["words"]
    assert (verdict.outcome, verdict.detail) == (outcome, said)
    assert verdict.remedy == ("use other words in demo" if outcome == "failed" else "")


@pytest.fixture
def documented_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gate of ``write-an-engine.md``, installed as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "write-an-engine.md").read_text(encoding="utf-8")
    section = page.partition("\n## A gate\n")[2]
    source, table = re.search(r"```python\n(.*?)^```.*?```toml\n(.*?)^```", section, re.DOTALL | re.MULTILINE).groups()  # type: ignore[union-attr]
    ((group, named),) = tomllib.loads(table)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in named.items())]
    info = tmp_path / "installed" / "review-1.dist-info"
    info.mkdir(parents=True)
    (info.parent / "review_gate.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: review\nVersion: 1\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(info.parent)
    plugins._found.cache_clear()
    yield
    plugins._found.cache_clear()


@pytest.mark.usefixtures("documented_gate")
@pytest.mark.parametrize(
    ("threshold", "outcome", "said"),
    [
        ({}, "passed", "modules changed: 1"),
        ({"review": 0}, "parked", "modules changed: 1"),
        ({"review": False}, "reported", "modules changed: 1"),
        ({"review": "none"}, "failed", "review = 'none' is no number. Write how many modules need no review."),
    ],
)
def test_the_documented_gate_works_as_documented(
    judged: Judge, threshold: dict[str, JsonValue], outcome: str, said: str
) -> None:
    """It passes, asks for a person, only reports, or is set up wrongly."""
    gates = Gates(coverage=80, plugins=threshold)
    verdict = judged({"demo.py": "x = 1\n"}, {"demo.py": "x = 2\n"}, gates=gates)["review"]
    assert (verdict.outcome, verdict.detail) == (outcome, said)
    assert verdict.waits_for == ("review demo.py" if outcome == "parked" else "")


def test_a_gate_that_is_not_installed_is_no_pass() -> None:
    """A threshold for a gate that this host does not have is an error that names those it has."""
    with pytest.raises(UnknownEngine, match=r"No gate named 'words' is installed here.*security"):
        load(Gates(plugins={"words": {}}))


class Forgetful:
    """A gate without a remedy."""

    name = "lint"
    of_the_source = True

    def judge(self, job: GateJob) -> GateOutcome:
        """Not reached."""
        raise AssertionError(job)


def test_what_is_no_gate_is_noticed_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that forgets its remedy is refused before anything is judged."""
    load_plugin = plugins.load
    monkeypatch.setattr(plugins, "load", lambda group, name: Forgetful if name == "lint" else load_plugin(group, name))
    with pytest.raises(UnknownEngine, match=r"'lint' \(.*Forgetful\) is none.*protocols.Gate"):
        load(Gates())


def test_a_parked_gate_says_what_it_waits_for() -> None:
    """Nobody can decide on an outcome that asks nothing, and nobody is asked by another one."""
    with pytest.raises(ValidationError, match="waits_for"):
        GateOutcome(name="words", outcome="parked", detail="")
    with pytest.raises(ValidationError, match="waits_for"):
        GateOutcome(name="words", outcome="passed", detail="", waits_for="look")


def test_an_old_code_base_is_not_blocked_by_its_history(judged: Judge) -> None:
    """Findings that were there before do not count, though their lines have moved."""
    verdicts = judged({"demo.py": OLD}, {"demo.py": '"""Moved down."""\n\n' + OLD})
    assert {name: gate.outcome for name, gate in verdicts.items()} == {
        "pass_rate": "passed",
        "coverage": "passed",
        "lint": "passed",
        "types": "off",
        "security": "passed",
    }
    assert verdicts["coverage"].detail == "82.0 % of 80 %"


def test_new_findings_fail_an_enforced_gate_and_are_named(judged: Judge) -> None:
    """A new unused import and a new use of eval stop the tree, each with its place and rule."""
    verdicts = judged(
        {"demo.py": OLD}, {"demo.py": OLD.replace("import os", "import os\nimport re") + "x = eval('1')\n"}
    )
    assert verdicts["lint"].outcome == "failed"
    assert verdicts["lint"].detail == "1 new finding"
    assert verdicts["lint"].findings[0].startswith("demo.py:2: F401 ")
    assert [finding.split(" ")[:2] for finding in verdicts["security"].findings] == [["demo.py:7:", "B307"]]


def test_new_findings_are_only_reported_where_the_target_does_not_ask(judged: Judge) -> None:
    """The same findings are reported for a target that does not enforce the gate."""
    verdicts = judged({"demo.py": ""}, {"demo.py": OLD}, gates=REPORTED)
    assert (verdicts["lint"].outcome, verdicts["security"].outcome) == ("reported", "reported")


def test_added_tests_are_linted_as_tests(judged: Judge) -> None:
    """A generated test adds no findings of its own, but it may assert and compare where a repository forbids both."""
    config = '[lint]\nselect = ["F", "S", "PLR2004"]\n'
    test = "import os\n\n\ndef test_it():\n    assert 6 * 7 == 42\n    assert eval('1') != 7\n"
    files = {"demo.py": "", "ruff.toml": config}
    verdicts = judged(files, {**files, "tests/test_demo.py": test}, tests=("tests/test_demo.py",))
    assert [finding.split(" ")[1] for finding in verdicts["lint"].findings] == ["F401", "S307"]


def test_types_are_checked_where_the_repository_configures_mypy(judged: Judge, component_python: Path) -> None:
    """With a mypy configuration new type errors count and old ones do not, seen from the component's environment."""
    source = "import pytest\n\n\ndef f(x: int) -> str:\n    return x\n"
    files = {"demo.py": source, "setup.cfg": "[mypy]\nstrict = True\n"}
    after = {**files, "demo.py": source + "y: str = pytest.version_tuple\n"}
    verdict = judged(files, after, python=component_python)["types"]
    assert verdict.outcome == "failed"
    assert verdict.detail == "1 new finding"
    assert verdict.findings[0].startswith("demo.py:6: assignment ")


@pytest.mark.parametrize(
    ("gate", "files", "said"),
    [
        ("lint", {"ruff.toml": 'line-length = "wide"\n'}, "ruff ended with status 2"),
        ("types", {"mypy.ini": "[mypy]\nplugins = nowhere\n"}, "mypy ended with status 2"),
        ("security", {"pyproject.toml": '[tool.bandit]\ntests = ["B999"]\n'}, "bandit ended with status 2"),
    ],
)
def test_a_tool_that_cannot_work_fails_its_gate(judged: Judge, gate: str, files: dict[str, str], said: str) -> None:
    """A configuration a tool cannot take is told as the gate's verdict, and the other gates go on."""
    verdicts = judged({"demo.py": "", **files}, {"demo.py": "", **files})
    assert verdicts[gate].outcome == "failed"
    assert verdicts[gate].detail.startswith(said)
    assert all(verdict.outcome in {"passed", "off"} for name, verdict in verdicts.items() if name != gate)


@pytest.mark.parametrize(
    ("suite", "gate", "detail"),
    [
        (COVERED.model_copy(update={"failed": 1}), "pass_rate", "80.0 % of 100 %"),
        (
            COVERED.model_copy(update={"aborted": "timed out"}),
            "pass_rate",
            "the suite did not come to its end: timed out",
        ),
        (SuiteReport(passed=1), "coverage", "coverage could not be measured"),
        (
            SuiteReport(
                coverage=(
                    ModuleCoverage(path="a.py", statements=4, covered_statements=1, branches=0, covered_branches=0),
                )
            ),
            "coverage",
            "25.0 % of 80 %",
        ),
    ],
)
def test_the_suite_is_held_against_its_thresholds(judged: Judge, suite: SuiteReport, gate: str, detail: str) -> None:
    """Too few passing tests, an aborted suite, too little coverage or none measured: each fails with its figure."""
    verdict = judged({"demo.py": ""}, {"demo.py": ""}, suite=suite)[gate]
    assert (verdict.outcome, verdict.detail) == ("failed", detail)


def test_failing_tests_are_named(judged: Judge) -> None:
    """The pass rate's verdict lists what failed."""
    suite = COVERED.model_copy(update={"failed": 1, "failures": (TestFailure(id="t.py::test_a", message="no"),)})
    assert judged({"demo.py": ""}, {"demo.py": ""}, suite=suite)["pass_rate"].findings == ("t.py::test_a",)


def test_a_rewritten_line_keeps_its_old_finding() -> None:
    """A rule's findings in a file are new only beyond their number before; identical ones are told apart by count."""

    def finding(text: str, line: int = 1, rule: str = "E501") -> Finding:
        return Finding("a.py", line, rule, "", text)

    old = [finding("x='a'"), finding("same"), finding("same")]
    assert list(new(old, [finding('x="a"'), finding("same"), finding("same")])) == []
    assert list(new(old, [*old, finding("same", 9)])) == [finding("same", 9)]
    assert list(new(old, [finding("x='a'", rule="E1")])) == [finding("x='a'", rule="E1")]
