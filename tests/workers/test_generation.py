"""Facts about testing and generation as stages: on real trees, through a real ledger, store, environment and suite."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import redis

from tta_tasks import patches, plugins
from tta_tasks.errors import EngineFailed, TreeRefused, TtaError, UnknownEngine
from tta_tasks.foreign import ForeignTree
from tta_tasks.ledger import Ledger
from tta_tasks.models import (
    Component,
    Criterion,
    GenerationRequest,
    GenerationResult,
    Module,
    Priority,
    Stage,
    Status,
    TaskRecord,
    TestingRequest,
    TestingResult,
)
from tta_tasks.protocols import CandidateTests, GenerationJob
from tta_tasks.settings import settings
from tta_tasks.snapshot import pack
from workers.acceptance.placement import place_tests
from workers.stages import cache_keys, dispatch, generation, testing
from workers.stages.context import Context

MODULE = Module(name="calc", path="calc.py")
COMPONENT = Component(name="calc", root="packages/calc", modules=(MODULE,), requires_python=">=3.10")
SOURCE = "def sign(n):\n    if n < 0:\n        return -1\n    return 1\n\n\ndef half(n):\n    return n // 2\n"
USERS = "import calc\n\n\ndef test_positive():\n    assert calc.sign(1) == 1\n"


class Scripted:
    """An engine that proposes what it was told to, round by round."""

    name = "scripted"
    version = "1"
    script: ClassVar[list[str | EngineFailed]] = []
    jobs: ClassVar[list[GenerationJob]] = []

    def available(self) -> str:
        """It always is."""
        return ""

    def generate(self, job: GenerationJob) -> Sequence[CandidateTests]:
        """The next proposal of the script."""
        self.jobs.append(job)
        if len(self.jobs) > len(self.script):
            return ()
        proposal = self.script[len(self.jobs) - 1]
        if isinstance(proposal, EngineFailed):
            raise proposal
        return [CandidateTests(job.output_path, proposal, {"test_negative": ("AC1",)})]


class Absent(Scripted):
    """An engine that cannot work here."""

    name = "absent"

    def available(self) -> str:
        """It never is."""
        return "it lacks a key"


class Desk:
    """A store and a ledger with one tree in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger.connect(settings())

    def context(self, request: TestingRequest | GenerationRequest) -> Context:
        """The context of a new task that has been started."""
        record = TaskRecord(
            id=uuid.uuid4().hex, run_id=None, name="tta_tasks.run_tests", stage=Stage.TESTING, label="",
            queue="testing", priority=Priority.NORMAL, submitted_at=0, request=request,
        )  # fmt: skip
        self.ledger.accept([record])
        self.ledger.begin(record.id, record.name, "")
        return Context(record, self.ledger, settings())

    def snapshot(self, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> str:
        """A tree with ``files`` and symbolic ``links`` in the project, in the store."""
        tree = self.folder / f"tree-{len(list(self.folder.iterdir()))}"
        for name, text in files.items():
            path = tree / COMPONENT.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, target in (links or {}).items():
            (tree / COMPONENT.root / name).symlink_to(target)
        request = TestingRequest(snapshot="0" * 64, component=COMPONENT)
        return self.context(request).store.put(pack(tree, max_bytes=1 << 24, max_files=1000).data)

    def test(self, files: Mapping[str, str]) -> TestingResult:
        """The stage's result on a project of ``files``."""
        request = TestingRequest(snapshot=self.snapshot(files), component=COMPONENT)
        return testing.run(request, self.context(request))

    def generate(self, files: Mapping[str, str], *, engine: str = "scripted", **wishes: object) -> GenerationResult:
        """The stage's result on a project of ``files``."""
        fields = {"coverage_threshold": 100, "snapshot": self.snapshot(files), "component": COMPONENT, **wishes}
        request = GenerationRequest.model_validate({"engine": engine, "module": MODULE, **fields})
        return generation.run(request, self.context(request))

    def applied(self, result: GenerationResult) -> dict[str, str]:
        """The files that a result's patch makes in an empty tree."""
        assert result.patch
        tree = self.folder / "applied"
        tree.mkdir()
        request = TestingRequest(snapshot="0" * 64, component=COMPONENT)
        patches.apply(self.context(request).store.get(result.patch), tree)
        return {path.relative_to(tree).as_posix(): path.read_text() for path in tree.rglob("*") if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path, cache: Path, valkey_url: str, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A real store and ledger, both empty."""
    assert not valkey.dbsize()
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    return Desk(tmp_path)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[GenerationJob]]:
    """Tells the scripted engine what to propose; answers the list of jobs it will have got."""

    def tell(*proposals: str | EngineFailed) -> list[GenerationJob]:
        jobs: list[GenerationJob] = []
        engines = {"scripted": Scripted, "absent": Absent}
        monkeypatch.setattr(Scripted, "script", list(proposals))
        monkeypatch.setattr(Scripted, "jobs", jobs)
        monkeypatch.setattr(plugins, "names", lambda _group: tuple(engines))
        monkeypatch.setattr(plugins, "load", lambda _group, name: engines[name])
        return jobs

    return tell


NEGATIVE = "import calc\n\n\ndef test_negative():\n    assert calc.sign(-2) == -1\n"
HALF = "import calc\n\n\ndef test_half():\n    assert calc.half(4) == 2\n"
WRONG = "import calc\n\n\ndef test_wrong():\n    assert calc.half(4) == 3\n"


def test_a_green_suite_is_the_baseline(desk: Desk) -> None:
    """The result has the figures, the Python and the sandbox they were measured with."""
    result = desk.test({"calc.py": SOURCE, "tests/test_users.py": USERS})
    assert (result.status, result.error) == (Status.COMPLETED, None)
    assert result.suite
    assert (result.suite.passed, result.suite.coverage[0].missing_lines) == (1, (3, 8))
    assert result.python.startswith("3.")
    assert result.sandbox


def test_failing_tests_fail_the_stage(desk: Desk) -> None:
    """The fault says how many fail, and which first and why; the failures are in the suite."""
    result = desk.test({"calc.py": SOURCE, "tests/test_users.py": USERS + WRONG})
    assert result.status is Status.FAILED
    assert result.error
    assert result.error.message == (
        "1 of 2 tests of the component fails; first tests/test_users.py::test_wrong: assert 2 == 3"
    )
    assert result.suite
    assert [failure.id for failure in result.suite.failures] == ["tests/test_users.py::test_wrong"]


def test_a_suite_that_goes_down_fails_the_stage(desk: Desk) -> None:
    """The fault names the test that did it."""
    dies = "import os\n\n\ndef test_dies():\n    os._exit(1)\n"
    result = desk.test({"calc.py": SOURCE, "tests/test_dies.py": dies})
    assert result.status is Status.FAILED
    assert result.error
    assert "status 1 before the tests did in tests/test_dies.py::test_dies" in result.error.message


def test_rounds_go_on_until_the_threshold_is_met(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """Each round is told the gaps and the rejections so far; all that was kept is one patch below the project."""
    jobs = script(NEGATIVE + WRONG.replace("import calc\n", ""), HALF)
    result = desk.generate(
        {"calc.py": SOURCE, "tests/test_users.py": USERS}, criteria=(Criterion(id="AC1", text="negative"),)
    )
    assert (result.status, result.threshold_met, result.rounds) == (Status.COMPLETED, True, 2)
    assert (result.coverage_before and result.coverage_before.covered_statements) == 4
    assert (result.coverage_after and result.coverage_after.percent) == 100
    assert [job.coverage.missing_lines for job in jobs] == [(3, 8), (8,)]
    assert [reject.name for reject in jobs[1].rejected] == ["test_wrong"]
    assert [(test.name, test.criteria) for test in result.accepted] == [("test_negative", ("AC1",)), ("test_half", ())]
    assert result.engines == ("scripted 1",)
    both = NEGATIVE + "\n\n" + HALF.removeprefix("import calc\n\n\n")
    assert desk.applied(result) == {"packages/calc/tests/test_calc_scripted.py": both}
    assert result.files == ("packages/calc/tests/test_calc_scripted.py",)


def test_nothing_to_do_above_the_threshold(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """The engine is not asked."""
    jobs = script(NEGATIVE)
    result = desk.generate({"calc.py": SOURCE, "tests/test_users.py": USERS}, coverage_threshold=10)
    assert (result.status, result.threshold_met, result.patch, jobs) == (Status.COMPLETED, True, None, [])


def test_an_engine_that_gives_up_fails_the_task(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """Only where nothing at all came out; the fault is the engine's."""
    script(EngineFailed("It cannot import calc.", "Look at it."))
    result = desk.generate({"calc.py": SOURCE})
    assert result.status is Status.FAILED
    assert result.error
    assert (result.error.type, result.error.message) == ("EngineFailed", "It cannot import calc.")
    assert result.module == MODULE


def test_tests_that_all_fail_leave_no_patch(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """The task is done, the threshold is not met, and the reasons are there."""
    script(WRONG)
    result = desk.generate({"calc.py": SOURCE})
    assert (result.status, result.threshold_met, result.patch) == (Status.COMPLETED, False, None)
    assert [(reject.name, reject.reason) for reject in result.rejected] == [("test_wrong", "fails")]


def test_auto_takes_what_can_work(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """An engine that cannot work here is passed over; asked for by name, it is a fault."""
    script(NEGATIVE)
    result = desk.generate({"calc.py": SOURCE}, engine="auto", coverage_threshold=50)
    assert result.engines == ("scripted 1",)
    with pytest.raises(UnknownEngine, match="absent: it lacks a key"):
        desk.generate({"calc.py": SOURCE}, engine="absent")


def test_the_embedded_engine_covers_a_small_module(desk: Desk) -> None:
    """Without a test to start with, all of it is covered by tests that hold."""
    result = desk.generate({"calc.py": SOURCE}, engine="characterize", budget_s=3)
    assert result.threshold_met
    assert set(desk.applied(result)) == {"packages/calc/tests/test_calc_characterization.py"}


def test_a_cancelled_run_gives_no_verdict(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that was cut short is not told as one that fails."""
    monkeypatch.setattr(Context, "cancelled", lambda _self: True)
    with pytest.raises(TtaError, match="cancelled"):
        desk.test({"calc.py": SOURCE, "tests/test_users.py": USERS})
    with pytest.raises(TtaError, match="cancelled"):
        desk.generate({"calc.py": SOURCE}, engine="characterize")


class Careless(Scripted):
    """An engine that runs the component's code, and then reads what that was to leave."""

    name = "careless"

    def generate(self, job: GenerationJob) -> Sequence[CandidateTests]:
        """Reads through the one door."""
        job.workspace.run_python("-c", "import os; os.mkfifo('left\\nbehind')")
        ForeignTree(job.workspace.root).read_bytes(job.workspace.project / "left\nbehind")
        return ()


@pytest.mark.parametrize("link", [None, "helper"])
def test_an_earlier_result_answers_while_what_it_depends_on_is_the_same(desk: Desk, link: str | None) -> None:
    """Also where an imported package is a link to elsewhere in the tree; and without one, other files do not matter."""
    package = "elsewhere" if link else "helper"

    def key(value: int, other: int) -> str | None:
        files = {"calc.py": "import helper\n", f"{package}/__init__.py": f"VALUE = {value}\n", "o.py": f"V = {other}\n"}
        snapshot = desk.snapshot(files, {link: "elsewhere"} if link else None)
        fields = {"engine": "characterize", "module": MODULE, "component": COMPONENT, "snapshot": snapshot}
        context = desk.context(GenerationRequest.model_validate(fields))
        return cache_keys.key_of(context.task, context)

    assert key(1, 1) == key(1, 1)
    assert key(1, 1) != key(2, 1)
    assert (key(1, 1) == key(1, 2)) is (link is None)


def test_a_module_that_is_not_in_the_tree_is_said_so(desk: Desk) -> None:
    """What is covered of it cannot be measured, and that is no fault of ours."""
    fields = {"engine": "characterize", "module": {"name": "gone", "path": "gone.py"}, "component": COMPONENT}
    request = GenerationRequest.model_validate({**fields, "snapshot": desk.snapshot({"calc.py": SOURCE})})
    context = desk.context(request)
    with pytest.raises(EngineFailed, match=r"What is covered of gone\.py cannot be measured"):
        dispatch.perform(context.task, desk.ledger)


def test_what_is_refused_ends_the_task_in_plain_words(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is permanent, and says what was found where; the name cannot forge a line of a log."""
    monkeypatch.setattr(plugins, "load", lambda _group, _name: Careless)
    fields = {"engine": "careless", "module": MODULE, "coverage_threshold": 100, "component": COMPONENT}
    request = GenerationRequest.model_validate({**fields, "snapshot": desk.snapshot({"calc.py": SOURCE})})
    context = desk.context(request)
    with pytest.raises(TreeRefused, match="left in its tree what is not opened") as caught:
        dispatch.perform(context.task, desk.ledger)
    assert "packages/calc/left\\nbehind: it is no regular file." in caught.value.message


def test_a_suite_that_spoils_its_tree_spoils_no_round(desk: Desk, script: Callable[..., list[GenerationJob]]) -> None:
    """What tests do to the tree while the baseline is measured is gone when an engine looks at it."""
    spoiling = "import calc, os, pathlib\n\n\ndef test_it():\n    here = pathlib.Path(calc.__file__)\n"
    spoiling += "    here.unlink()\n    os.symlink('/dev/zero', here)\n    os.mkfifo('tests/test_calc_scripted.py')\n"
    jobs = script(NEGATIVE + HALF.replace("import calc\n", ""))
    result = desk.generate({"calc.py": SOURCE, "tests/test_it.py": spoiling})
    assert result.status is Status.COMPLETED
    assert jobs[0].output_path == "tests/test_calc_scripted.py"


PLACES = {
    "plain": ({"tests/test_x.py"}, "pkg.mod", "tests/test_mod_new.py"),
    "no tests yet": (set(), "pkg.mod", "tests/test_mod_new.py"),
    "taken": ({"tests/test_mod_new.py"}, "pkg.mod", "tests/test_mod_new_2.py"),
    "suffixed": ({"tests/x_test.py"}, "pkg.mod", "tests/mod_new_test.py"),
    "mirrored": ({"tests/sub/test_x.py"}, "pkg.sub.alone", "tests/sub/test_alone_new.py"),
    "mirrored with package": ({"tests/pkg/sub/test_x.py"}, "pkg.sub.alone", "tests/pkg/sub/test_alone_new.py"),
    "same name twice": (set(), "pkg.sub.mod2", "tests/test_sub_mod2_new.py"),
    "package": (set(), "pkg", "tests/test_pkg_new.py"),
}


@pytest.mark.parametrize(("files", "name", "expected"), PLACES.values(), ids=PLACES)
def test_new_files_follow_the_habits_of_the_tests(tmp_path: Path, files: set[str], name: str, expected: str) -> None:
    """Names and folders are those a person would have taken, and nothing is written over."""
    sources = {"pkg/__init__.py", "pkg/mod.py", "pkg/sub/alone.py", "pkg/sub/mod2.py", "pkg/mod2.py"}
    for file in files | sources:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    # A request for one module knows of no other; the tree does.
    module = Module(name=name, path=f"{name.replace('.', '/')}.py")
    assert place_tests(ForeignTree(tmp_path), Component(name="pkg", modules=(module,)), module, "new") == expected
