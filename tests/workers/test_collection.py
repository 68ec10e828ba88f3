"""Refactoring, collection and deployment as stages: through a real ledger, store, environment and suite."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import redis
from pydantic import JsonValue

from tta_tasks import patches
from tta_tasks.errors import DeploymentFailed, UnknownEngine
from tta_tasks.ledger import Ledger
from tta_tasks.models import (
    CollectionRequest,
    CollectionResult,
    Component,
    Decision,
    DeploymentRequest,
    DeploymentResult,
    ErrorInfo,
    Gates,
    GenerationResult,
    Module,
    Priority,
    RefactoringRequest,
    RefactoringResult,
    Result,
    Stage,
    Status,
    SuiteReport,
    Target,
    TaskRecord,
    TestFailure,
    TestingRequest,
    TestingResult,
)
from tta_tasks.settings import settings
from tta_tasks.snapshot import pack, unpack
from workers.component.wheels import release_digest
from workers.deployers.targets import load_target
from workers.stages import collection, deployment, refactoring
from workers.stages.context import Context
from workers.stages.merge import Choice, settle

LIMITS = {"max_bytes": 1 << 24, "max_files": 1000}
MODULE = Module(name="calc", path="calc.py")
COMPONENT = Component(name="calc", modules=(MODULE,), requires_python=">=3.10")

SOURCE = """\
def sign(n):
    if n < 0:
        return -1
    else:
        return 1


def show(n):
    return "n={}".format(n)
"""
TIDIER = SOURCE.replace("    else:\n        return 1", "    return 1")
USERS = "import calc\n\n\ndef test_show():\n    assert calc.show(1) == 'n=1'\n"
TREE = {"calc.py": SOURCE, "tests/test_users.py": USERS}
POSITIVE = "import calc\n\n\ndef test_positive():\n    assert calc.sign(2) == 1\n"
NEGATIVE = "import calc\n\n\ndef test_negative():\n    assert calc.sign(-2) == -1\n"
WRONG = "import calc\n\n\ndef test_wrong():\n    assert calc.sign(0) == 0\n"


class Bench:
    """A context, and what is needed to give it work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger.connect(settings())
        self.request = TestingRequest(snapshot="0" * 64, component=COMPONENT)
        this = self._record("this", Stage.COLLECTION)
        self.ledger.accept([this])
        self.ledger.begin(this.id, this.name, "")
        self.context = Context(this, self.ledger, settings())

    def snapshot(self, files: Mapping[str, str]) -> str:
        """A tree of ``files``, in the store."""
        return self.context.store.put(pack(self.tree(files), **LIMITS).data)

    def tree(self, files: Mapping[str, str]) -> Path:
        """A new folder with ``files``."""
        tree = self.folder / str(time.monotonic_ns())
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        return tree

    def patch(self, files: Mapping[str, str], before: Mapping[str, str] = TREE) -> str:
        """The patch that adds or changes ``files``, in the store."""
        return self.context.store.put(patches.diff(self.tree(before), self.tree({**before, **files})))

    def files(self, digest: str | None) -> dict[str, str]:
        """A stored tree as files."""
        assert digest
        tree = self.folder / digest
        unpack(self.context.store.get(digest), tree, **LIMITS)
        return {p.relative_to(tree).as_posix(): p.read_text() for p in tree.rglob("*") if p.is_file()}

    def done(self, *results: Result) -> tuple[str, ...]:
        """Put results into the ledger; answer the ids of their tasks."""
        return tuple(self._finish(f"task-{time.monotonic_ns()}", result) for result in results)

    def _finish(self, task_id: str, result: Result) -> str:
        record = self._record(task_id, Stage.GENERATION)
        self.ledger.accept([record])
        self.ledger.begin(record.id, record.name, "")
        assert self.ledger.finish(record, result)
        return task_id

    def _record(self, task_id: str, stage: Stage) -> TaskRecord:
        return TaskRecord(
            id=task_id, run_id=None, name="tta_tasks.run_tests", stage=stage, label="",
            queue="testing", priority=Priority.NORMAL, submitted_at=0,
            request=self.request,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, cache: Path, valkey_url: str, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A context on a real store and ledger, both empty."""
    assert not valkey.dbsize()
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    return Bench(tmp_path)


def generated(bench: Bench, files: Mapping[str, str]) -> GenerationResult:
    return GenerationResult(status=Status.COMPLETED, module=MODULE, patch=bench.patch(files))


def refactored(bench: Bench, source: str) -> RefactoringResult:
    return RefactoringResult(status=Status.COMPLETED, patch=bench.patch({"calc.py": source}))


def collect(bench: Bench, *results: Result, coverage: float = 50, words: JsonValue = None) -> CollectionResult:
    request = CollectionRequest(
        snapshot=bench.snapshot(TREE),
        component=COMPONENT,
        needs=bench.done(*results),
        target=Target.STAGING,
        gates=Gates(coverage=coverage, lint=True, plugins={} if words is None else {"words": words}),
    )
    return collection.run(request, bench.context)


def test_what_holds_together_is_one_tree_and_two_patches(bench: Bench) -> None:
    """The tree has the refactoring and all tests; the patches, tests first, lead from the snapshot to that tree."""
    result = collect(
        bench,
        generated(bench, {"tests/test_positive.py": POSITIVE}),
        generated(bench, {"tests/test_negative.py": NEGATIVE}),
        refactored(bench, TIDIER),
    )
    expected = {**TREE, "calc.py": TIDIER, "tests/test_positive.py": POSITIVE, "tests/test_negative.py": NEGATIVE}
    assert (result.status, result.error, result.dropped) == (Status.COMPLETED, None, ())
    assert bench.files(result.tree) == expected
    assert result.coverage_after == 100
    tree = bench.tree(TREE)
    assert result.tests_patch
    assert result.refactoring_patch
    assert patches.apply(bench.context.store.get(result.tests_patch), tree) == (
        "tests/test_negative.py",
        "tests/test_positive.py",
    )
    assert patches.apply(bench.context.store.get(result.refactoring_patch), tree) == ("calc.py",)
    assert pack(tree, **LIMITS).digest == result.tree


def test_a_refactoring_that_breaks_a_test_is_dropped(bench: Bench) -> None:
    """The tests stay, the source stays as it was, and the reason names what failed."""
    result = collect(
        bench,
        generated(bench, {"tests/test_negative.py": NEGATIVE}),
        refactored(bench, SOURCE.replace("return -1", "return -2")),
    )
    assert bench.files(result.tree) == {**TREE, "tests/test_negative.py": NEGATIVE}
    assert result.refactoring_patch is None
    assert [drop.what for drop in result.dropped] == ["refactoring"]
    assert "with it, 1 test fails: tests/test_negative.py::test_negative" in result.dropped[0].reason


def test_only_the_test_file_that_fails_is_dropped(bench: Bench) -> None:
    """The other test file and the refactoring, which first was suspected, are kept; so are the user's tests."""
    result = collect(
        bench,
        generated(bench, {"tests/test_wrong.py": WRONG, "tests/test_negative.py": NEGATIVE}),
        refactored(bench, TIDIER),
    )
    assert bench.files(result.tree) == {**TREE, "calc.py": TIDIER, "tests/test_negative.py": NEGATIVE}
    assert [drop.what for drop in result.dropped] == ["tests/test_wrong.py"]
    assert result.suite is not None
    assert result.suite.green


def test_a_refactoring_that_fails_a_gate_is_dropped(bench: Bench) -> None:
    """Its new finding would stop the tree, so it goes, and the run goes on with the tests."""
    result = collect(
        bench, generated(bench, {"tests/test_negative.py": NEGATIVE}), refactored(bench, "import os\n\n" + TIDIER)
    )
    assert (result.status, result.refactoring_patch) == (Status.COMPLETED, None)
    assert [(drop.what, drop.reason) for drop in result.dropped] == [
        ("refactoring", "with it, the tree does not pass: lint")
    ]
    assert bench.files(result.tree)["calc.py"] == SOURCE


@pytest.mark.usefixtures("words_gate")
def test_a_gate_of_another_package_is_applied(bench: Bench) -> None:
    """A refactoring that makes it fail is dropped; a source that fails anyway fails the collection, with its remedy."""
    tests = generated(bench, {"tests/test_negative.py": NEGATIVE})
    result = collect(bench, tests, refactored(bench, "magic = 1\n" + TIDIER), words={"banned": ["magic"]})
    assert [drop.reason for drop in result.dropped] == ["with it, the tree does not pass: words"]
    assert (result.status, result.gates[-1].name, result.gates[-1].outcome) == (Status.COMPLETED, "words", "passed")
    failed = collect(bench, tests, words={"banned": ["sign"]})
    assert failed.error is not None
    assert failed.error.message == "The tree does not pass the gates of staging: words has sign."
    assert failed.error.hint.startswith("Do one of these: use other words in calc; ")


@pytest.mark.usefixtures("words_gate")
def test_a_gate_that_asks_for_a_person_does_not_fail_the_collection(bench: Bench) -> None:
    """The tree is stored, and the result carries what has to be decided."""
    result = collect(bench, generated(bench, {"tests/test_negative.py": NEGATIVE}), words={"asked": ["sign"]})
    assert (result.status, result.error) == (Status.COMPLETED, None)
    assert "tests/test_negative.py" in bench.files(result.tree)
    assert (result.gates[-1].outcome, result.gates[-1].waits_for) == ("parked", "look at sign")


def test_a_missing_gate_fails_the_collection_before_anything_runs(bench: Bench) -> None:
    """What the component asks for must not be left out because a host lacks it."""
    with pytest.raises(UnknownEngine, match="'words'"):
        collect(bench, words={})


def test_failed_gates_say_by_how_much_and_what_to_do(bench: Bench) -> None:
    """The result is a failure with figures and a way out; the tree is stored all the same."""
    baseline = TestingResult(status=Status.COMPLETED, suite=SuiteReport())
    result = collect(bench, baseline, generated(bench, {"tests/test_more.py": "import os\n" + POSITIVE}), coverage=95)
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.type == "GatesFailed"
    assert result.error.message == (
        "The tree does not pass the gates of staging: coverage 75.0 % of 95 %; lint 2 new findings."
    )
    assert "write tests for calc.py (75 %)" in result.error.hint
    assert "tests/test_more.py" in bench.files(result.tree)


def test_what_failed_or_must_not_be_is_left_out(bench: Bench) -> None:
    """A failed generation is passed over; tests that change source, or collide, are refused with the reason."""
    result = collect(
        bench,
        GenerationResult(status=Status.FAILED, error=ErrorInfo(type="EngineFailed", message="no")),
        generated(bench, {"calc.py": TIDIER}),
        generated(bench, {"pyproject.toml": "[tool.coverage.run]\nomit = ['*']\n"}),
        generated(bench, {"tests/test_a.py": POSITIVE}),
        generated(bench, {"tests/test_a.py": NEGATIVE}),
    )
    assert bench.files(result.tree) == {**TREE, "tests/test_a.py": POSITIVE}
    assert [drop.what for drop in result.dropped] == ["tests of calc"] * 3
    assert "calc.py" in result.dropped[0].reason
    assert "pyproject.toml" in result.dropped[1].reason


def test_refactoring_leaves_a_patch_of_the_source(bench: Bench) -> None:
    """The stage's patch changes the module and nothing else, and its steps say what they did."""
    request = RefactoringRequest(snapshot=bench.snapshot(TREE), component=COMPONENT)
    result = refactoring.run(request, bench.context)
    assert result.engine.startswith("embedded ")
    assert [(step.name, step.outcome) for step in result.steps][:2] == [("pyupgrade", "kept"), ("ruff check", "kept")]
    tree = bench.tree(TREE)
    assert result.patch is not None
    assert patches.apply(bench.context.store.get(result.patch), tree) == ("calc.py",)
    assert 'return f"n={n}"' in (tree / "calc.py").read_text()


def test_a_refactoring_that_a_test_notices_is_taken_back(bench: Bench) -> None:
    """What the tests tell apart stays as it is, and no patch is left when nothing else was changed."""
    watching = (
        "import inspect\n\nimport calc\n\n\ndef test_source():\n    assert '.format' in inspect.getsource(calc)\n"
    )
    source = "def show(n):\n    return 'n={}'.format(n)\n"
    files = {"calc.py": source, "tests/test_source.py": watching}
    result = refactoring.run(RefactoringRequest(snapshot=bench.snapshot(files), component=COMPONENT), bench.context)
    assert result.patch is None
    dropped = [step for step in result.steps if step.outcome == "dropped"]
    assert dropped
    assert all(step.detail == "breaks tests: tests/test_source.py::test_source" for step in dropped)


def test_a_step_may_leave_to_the_next_what_that_one_tidies_up(bench: Bench) -> None:
    """The first leaves an import unused, which ruff then takes away: both steps are kept."""
    source = (
        "from __future__ import annotations\n\nfrom typing import List\n\n\ndef f(x: List[int]) -> None:\n    pass\n"
    )
    request = RefactoringRequest(snapshot=bench.snapshot({"calc.py": source}), component=COMPONENT)
    steps = refactoring.run(request, bench.context).steps
    assert [(step.name, step.outcome, step.detail) for step in steps][:2] == [
        ("pyupgrade", "kept", "1 file rewritten"),
        ("ruff check", "kept", "2 fixes: F401 1, I001 1"),
    ]


def test_a_step_that_adds_a_lasting_finding_is_taken_back(bench: Bench) -> None:
    """A fix that calls for another, which is not a safe one, would only move the finding."""
    source = "def f(v):\n    if isinstance(v, int):\n        return 1\n    elif isinstance(v, str):\n        return 1\n"
    files = {"calc.py": source, "ruff.toml": '[lint]\nselect = ["SIM"]\n'}
    steps = refactoring.run(
        RefactoringRequest(snapshot=bench.snapshot(files), component=COMPONENT), bench.context
    ).steps
    dropped = [step.detail for step in steps if step.outcome == "dropped"]
    assert [detail.partition(" Multiple")[0] for detail in dropped] == ["adds findings: calc.py:2: SIM101"]


def test_nothing_to_refactor_is_no_patch(bench: Bench) -> None:
    """Tidy source completes without a patch."""
    request = RefactoringRequest(snapshot=bench.snapshot({"calc.py": "X = 1\n"}), component=COMPONENT)
    result = refactoring.run(request, bench.context)
    assert (result.status, result.patch) == (Status.COMPLETED, None)


# -- repositories that mean harm --------------------------------------------------------------------------------------

#: Once a module is on trial in another form, puts something else in its place, wherever it finds it, and fails.
SWAPPING = """\
import os
from pathlib import Path

import calc


def test_swap():
    own = Path(calc.__file__)
    if ".format(" in own.read_text():
        return
    places = [own, *(tree / "calc.py" for tree in Path(os.getcwd()).parents[1].glob("**/tree"))]
    for place in [*places, *(above / "tree" / "calc.py" for above in Path(os.getcwd()).parents)]:
        try:
            place.unlink()
            SWAP
        except OSError:
            pass
    VERDICT
"""
SWAPS = {
    "link": "os.symlink({canary!r}, place)",
    "pipe": "os.mkfifo(place)",
    "folder": "os.mkdir(place)",
    "endless": "os.symlink('/dev/zero', place)",
    "source": "place.write_text('planted = 1')",
}


@pytest.mark.parametrize(
    "verdict",
    [pytest.param("raise AssertionError", id="fails", marks=pytest.mark.slow), pytest.param("pass", id="passes")],
)
@pytest.mark.parametrize(
    "swap",
    [pytest.param(deed, id=name, marks=[pytest.mark.slow] if name != "link" else []) for name, deed in SWAPS.items()],
)
def test_a_module_is_swapped_while_it_is_on_trial(bench: Bench, tmp_path: Path, swap: str, verdict: str) -> None:
    """No file of the host is written, nothing is waited for, and only what the tools made of the source is kept."""
    canary = tmp_path / "canary"
    canary.write_text("canary")
    swapping = SWAPPING.replace("SWAP", swap.format(canary=str(canary))).replace("VERDICT", verdict)
    files = {**TREE, "tests/test_swap.py": swapping}
    request = RefactoringRequest(snapshot=bench.snapshot(files), component=COMPONENT)
    result = refactoring.run(request, bench.context)
    assert canary.read_text() == "canary"
    kept = {step.name: step.outcome for step in result.steps}
    assert kept["pyupgrade"] == ("kept" if verdict == "pass" else "dropped")
    if result.patch is not None:
        tree = bench.tree(files)
        assert patches.apply(bench.context.store.get(result.patch), tree) == ("calc.py",)
        assert "planted" not in (tree / "calc.py").read_text()


#: A plugin of mypy's that changes a file in each tree it can reach when it is loaded.
PLUGIN = """\
from pathlib import Path

for above in Path(__file__).parents[:6]:
    for place in above.glob("**/helper.py"):
        try:
            place.write_text("planted = 1\\n")
        except OSError:
            pass


def plugin(version):
    from mypy.plugin import Plugin

    return Plugin
"""


def test_a_gate_that_runs_the_repositorys_code_changes_nothing(bench: Bench) -> None:
    """What a plugin does to the trees that mypy looks at reaches neither the collected tree nor a patch."""
    configuration = "[tool.mypy]\nplugins = ['planting.py']\n"
    files = {**TREE, "pyproject.toml": configuration, "planting.py": PLUGIN, "helper.py": "X = 1\n"}
    wrong = bench.patch({"calc.py": TIDIER + "\n\nwrong: int = 'text'\n"}, files)
    request = CollectionRequest(
        snapshot=bench.snapshot(files),
        component=COMPONENT,
        needs=bench.done(
            RefactoringResult(status=Status.COMPLETED, patch=wrong),
            GenerationResult(
                status=Status.COMPLETED, module=MODULE, patch=bench.patch({"tests/test_more.py": NEGATIVE}, files)
            ),
        ),
        target=Target.STAGING,
        gates=Gates(coverage=10, types=True),
    )
    result = collection.run(request, bench.context)
    assert [drop.reason for drop in result.dropped] == ["with it, the tree does not pass: types"]
    assert bench.files(result.tree) == {**files, "tests/test_more.py": NEGATIVE}


def deploy(bench: Bench, environment: str, tree: str | None) -> DeploymentResult:
    """Deploy a collected tree to an environment of the worker's targets file."""
    collected = CollectionResult(status=Status.COMPLETED, tree=tree)
    request = DeploymentRequest(
        snapshot=bench.snapshot(TREE), component=COMPONENT, needs=bench.done(collected), environment=environment
    )
    return deployment.run(request, bench.context)


def test_a_collected_tree_goes_to_staging_and_production(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both environments get the same release of the tree, not of the snapshot; once more is unchanged."""
    targets = bench.folder / "targets.toml"
    table = f'path = "{bench.folder}/srv"\n'
    targets.write_text(
        f"[environments.staging]\n{table}[environments.production]\n{table}smoke = ['{{bin}}/nothing']\n"
    )
    monkeypatch.setenv("TTA_TARGETS_FILE", str(targets))
    settings.cache_clear()
    bench.context.settings = settings()
    tree = bench.snapshot({"calc.py": "print('collected')\n"})
    staged = deploy(bench, "staging", tree)
    assert (staged.status, staged.action, staged.checks[0].ok) == (Status.COMPLETED, "released", True)
    run = [f"{staged.location}/bin/python", "-c", "import calc"]
    assert subprocess.run(run, check=True, capture_output=True, text=True, cwd="/").stdout == "collected\n"
    assert deploy(bench, "staging", tree).action == "unchanged"
    produced = deploy(bench, "production", tree)
    assert (produced.release, produced.status, produced.action) == (staged.release, Status.FAILED, "rolled_back")
    assert produced.error is not None
    assert "failed its checks in production, and no release is in use" in produced.error.message


def test_what_nobody_listed_has_approved_is_not_deployed(
    bench: Bench, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before it is released, though its message skipped the preconditions: who approved, and this very release."""
    targets = bench.folder / "targets.toml"
    rule = '[environments.production.promotion]\napprovers = ["alice"]\n'
    targets.write_text(f'[environments.production]\npath = "{bench.folder}/srv"\n{rule}')
    monkeypatch.setenv("TTA_TARGETS_FILE", str(targets))
    settings.cache_clear()
    bench.context.settings = settings()
    tree, task = bench.snapshot({"calc.py": "x = 1\n"}), bench.context.task
    forged = Decision(outcome="approved", by="alice", user="alice", at=0)
    bench.context.task = task.model_copy(update={"decision": forged})
    right = f"production/{COMPONENT.name}/{release_digest(tree, COMPONENT)}"
    for user, said in (
        ("bob", right),
        ("alice", right.replace("production", "staging")),
        ("alice", f"production/{COMPONENT.name}/{release_digest('0' * 64, COMPONENT)}"),
    ):
        valkey.set(f"approval:tta:{user}:{task.id}", said)
        with pytest.raises(DeploymentFailed, match="was not approved by a Redis user who may"):
            deploy(bench, "production", tree)
    valkey.set(f"approval:tta:alice:{task.id}", right)
    assert deploy(bench, "production", tree).action == "released"


@pytest.mark.parametrize("approvers", ["[]", '["a:b"]', '["*"]', '"alice"'])
def test_a_list_of_approvers_that_does_not_hold_lets_nothing_through(bench: Bench, approvers: str) -> None:
    """An empty list, or a name that would be part of another user's key, is a fault of the file."""
    targets = bench.folder / "targets.toml"
    targets.write_text(f"[environments.production.promotion]\napprovers = {approvers}\n")
    with pytest.raises(DeploymentFailed, match="approvers"):
        load_target(targets, "production", "calc")


def test_a_tree_that_was_not_collected_is_not_deployed(bench: Bench) -> None:
    """Without a collected tree the fault says what is missing."""
    with pytest.raises(DeploymentFailed, match="no collected tree"):
        deploy(bench, "staging", None)


Red = Callable[[Choice], str]


def trial(red: Red) -> Callable[[Choice], SuiteReport]:
    """A suite where ``red`` names the test that fails, if any."""

    def run(choice: Choice) -> SuiteReport:
        failing = red(choice)
        return (
            SuiteReport(passed=1, failed=1, failures=(TestFailure(id=failing, message="E: no"),))
            if failing
            else SuiteReport(passed=1)
        )

    return run


FILES = tuple(f"sub/tests/test_{letter}.py" for letter in "abcdefgh")
EVERYTHING = Choice(FILES, refactoring=True)


def test_a_file_that_spoils_others_is_found_by_halving() -> None:
    """When the user's own test fails because of a generated file, that file goes, found in few runs."""
    tried: list[Choice] = []

    def red(choice: Choice) -> str:
        tried.append(choice)
        return "tests/test_users.py::test" if FILES[5] in choice.tests else ""

    choice, report, dropped = settle(trial(red), EVERYTHING)
    assert choice == Choice((*FILES[:5], *FILES[6:]), refactoring=True)
    assert report.green
    assert [drop.what for drop in dropped] == [FILES[5]]
    assert len(tried) <= 8


def test_tests_and_refactoring_can_both_be_to_blame() -> None:
    """A failing file goes first; the refactoring goes, too, if it breaks what remains."""

    def red(choice: Choice) -> str:
        if FILES[1] in choice.tests:
            return "tests/test_b.py::test"
        return "tests/test_c.py::test" if choice.refactoring else ""

    choice, report, dropped = settle(trial(red), EVERYTHING)
    assert choice == Choice((FILES[0], *FILES[2:]), refactoring=False)
    assert report.green
    assert [drop.what for drop in dropped] == ["refactoring", FILES[1]]


def test_nobody_is_blamed_for_what_fails_anyway() -> None:
    """When the user's own test fails without any contribution, all are kept and the suite is told as it is."""
    choice, report, dropped = settle(trial(lambda _choice: "tests/test_users.py::test"), EVERYTHING)
    assert (choice, dropped) == (EVERYTHING, [])
    assert not report.green
