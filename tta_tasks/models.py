"""The data that travels between producers, the queue and workers. Frozen, JSON-safe, in one place.

Requests say what is wanted, results what came of it. Both carry references (sha256 digests of artifacts), never
payloads. Paths are POSIX and relative: those of a :class:`Component` to its project folder, all others to the
snapshot's root. Times are seconds since the epoch; durations are seconds; percentages run from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)


def _inside(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
        raise ValueError(f"{path!r} must be a relative POSIX path that stays inside")
    return "/".join(parts) or "."


#: sha256 of an artifact's bytes, in hexadecimal; its name in every store.
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: A relative POSIX path without ``..``.
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=4096), AfterValidator(_inside)]
#: The name of a component, an environment or a target.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Percent = Annotated[float, Field(ge=0, le=100)]


#: Version of the records that this code writes, and the newest that it reads. Raise it only when an older reader would
#: misread a new record; not for an added field, which older readers ignore.
RECORD_VERSION: Final = 1


class Model(BaseModel):
    """Base of all models: immutable, numbers finite. Unknown fields are errors, those of stored records are ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def from_stored(cls, stored: str | bytes) -> Self:
        """Read JSON that this version, or another one, has stored.

        Raises:
            ValidationError: It has another form, or a newer :data:`RECORD_VERSION`.
        """
        return cls.model_validate_json(stored, extra="ignore")


class Record(Model):
    """Base of what is stored, or sent to other hosts."""

    #: The :data:`RECORD_VERSION` of the code that wrote it; a newer one is an error.
    version: int = Field(default=RECORD_VERSION, ge=1, le=RECORD_VERSION)


class Priority(StrEnum):
    """How urgent a task is, most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Status(StrEnum):
    """Where a task, or a run, stands. The last four are terminal."""

    QUEUED = "queued"
    #: A deployment that waits for its time, or for a person; no worker has it.
    PARKED = "parked"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {Status.QUEUED, Status.PARKED, Status.RUNNING}


class Stage(StrEnum):
    """The stages of a run, in order."""

    TESTING = "testing"
    GENERATION = "generation"
    REFACTORING = "refactoring"
    COLLECTION = "collection"
    STAGING = "staging"
    PRODUCTION = "production"


class Target(StrEnum):
    """How far a run goes. ``dev`` ends after collection."""

    DEV = "dev"
    STAGING = "staging"
    PRODUCTION = "production"


# -- what is worked on ------------------------------------------------------------------------------------------------


class Criterion(Model):
    """One acceptance criterion of a spec."""

    #: Stable within the spec: ``AC1``, ``AC2``, ... or the author's own label.
    id: str
    text: str


class Module(Model):
    """One Python module of a component."""

    #: Dotted import name.
    name: str
    #: Its file, relative to the component's project folder.
    path: RelativePath
    #: Bytes of its file; the larger, the longer its tests take to write.
    size: int = 0


class Component(Model):
    """A part of a repository that is built, tested and deployed as one."""

    name: Name
    #: The project folder (the one with ``pyproject.toml``) inside the snapshot; ``.`` is the snapshot's root.
    root: RelativePath = "."
    #: What goes on ``sys.path`` to import the modules: ``src``, or ``.`` for flat layouts.
    import_root: RelativePath = "."
    #: Where tests are, or where the first one goes.
    tests: RelativePath = "tests"
    modules: tuple[Module, ...]
    #: ``requires-python`` of the project, if it says.
    requires_python: str | None = None
    #: Extras and dependency groups to install for its tests.
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def _threshold(*, dev: float | bool, staging: float | bool, production: float | bool) -> Any:  # noqa: ANN401 - as Field
    """The threshold of one gate, with its default for each target; that of ``dev`` where a plan gives none."""
    defaults = {"dev": dev, "staging": staging, "production": production}
    return Field(default=dev, strict=True, json_schema_extra={"defaults": cast("dict[str, JsonValue]", defaults)})


class Gates(Model):
    """What a tree must satisfy for a target, one field a gate, in the order of the report.

    Set in ``[tool.tta.gates]`` of the component. How each gate judges is in ``workers/gates/``, a file a gate.
    """

    #: Lowest share of tests that pass.
    pass_rate: Percent = _threshold(dev=100.0, staging=100.0, production=100.0)
    #: Lowest line-and-branch coverage over the component's modules.
    coverage: Percent = _threshold(dev=50.0, staging=70.0, production=80.0)
    #: Whether new findings of each kind stop the run (``True``), or are only reported.
    lint: bool = _threshold(dev=False, staging=True, production=True)
    types: bool = _threshold(dev=False, staging=False, production=True)
    security: bool = _threshold(dev=False, staging=True, production=True)
    #: Thresholds of gates that other packages bring, by name. What such a value means, its gate decides.
    plugins: dict[Name, JsonValue] = {}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The gates of this project, in order."""
        return tuple(name for name in Gates.model_fields if name != "plugins")

    def enforced(self, name: str) -> bool:
        """Whether the gate ``name`` stops the run. Only a threshold of ``False`` does not."""
        return (getattr(self, name) if name in self.names() else self.plugins.get(name)) is not False


def _defaults(target: Target) -> Gates:
    extras = {name: cast("dict[str, Any]", Gates.model_fields[name].json_schema_extra) for name in Gates.names()}
    return Gates.model_validate({name: extra["defaults"][target] for name, extra in extras.items()})


#: What each target asks for, unless the component says otherwise.
DEFAULT_GATES: dict[Target, Gates] = {target: _defaults(target) for target in Target}


# -- what was measured ------------------------------------------------------------------------------------------------


class ModuleCoverage(Model):
    """Line and branch coverage of one module."""

    path: RelativePath
    statements: int
    covered_statements: int
    branches: int
    covered_branches: int
    missing_lines: tuple[int, ...] = ()
    #: ``(from line, to line)``; a negative or zero ``to`` is the exit of the code object.
    missing_branches: tuple[tuple[int, int], ...] = ()
    #: Lines among the missing ones that coverage.py calls executed, and a second count does not.
    disputed_lines: tuple[int, ...] = ()

    @property
    def percent(self) -> float:
        """Covered statements and branches over all of them, as coverage.py counts; 100 for an empty module."""
        total = self.statements + self.branches
        return 100.0 * (self.covered_statements + self.covered_branches) / total if total else 100.0


def total_percent(modules: tuple[ModuleCoverage, ...]) -> float:
    """Coverage over several modules, each weighed by its statements and branches."""
    total = sum(m.statements + m.branches for m in modules)
    return 100.0 * sum(m.covered_statements + m.covered_branches for m in modules) / total if total else 100.0


class TestFailure(Model):
    """A test that failed or could not run."""

    __test__ = False  # not a test class, whatever pytest thinks

    #: pytest's node id, or the file that could not be collected.
    id: str
    #: The end of the traceback, bounded.
    message: str


class SuiteReport(Model):
    """One run of a component's tests."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    failures: tuple[TestFailure, ...] = ()
    #: One entry for each module of the component; empty where coverage was not measured.
    coverage: tuple[ModuleCoverage, ...] = ()
    duration_s: float = 0.0
    #: Why the suite did not come to its end (``timed out after 600 s``, ``killed by signal 9``), or empty.
    aborted: str = ""

    @property
    def total(self) -> int:
        """Tests that ran and gave a verdict."""
        return self.passed + self.failed + self.errors

    @property
    def pass_rate(self) -> float:
        """Share of tests that passed; 100 when there are none."""
        return 100.0 * self.passed / self.total if self.total else 100.0

    @property
    def green(self) -> bool:
        """Whether the suite came to its end and nothing failed. No tests is green."""
        return not self.aborted and not self.failed and not self.errors


# -- requests ---------------------------------------------------------------------------------------------------------


class Request(Record):
    """What every task is told."""

    #: The run this belongs to; ``None`` for a task submitted on its own.
    run_id: str | None = None
    #: The tree to work on.
    snapshot: Digest
    component: Component
    #: Ids of the tasks whose results this one reads.
    needs: tuple[str, ...] = ()


class TestingRequest(Request):
    """Run the component's own tests and measure their coverage."""

    __test__ = False

    kind: Literal["testing"] = "testing"


class GenerationRequest(Request):
    """Write the missing tests of one module."""

    kind: Literal["generation"] = "generation"
    module: Module
    #: Engine's name; ``auto`` takes the best one that is available on the worker.
    engine: str = "auto"
    coverage_threshold: Percent = 80.0
    criteria: tuple[Criterion, ...] = ()
    #: Where the tests go, relative to the component's project folder; ``None`` follows the repository's habit.
    output_path: RelativePath | None = None
    #: Wall time an engine may search for tests, without acceptance.
    budget_s: float = Field(default=15.0, gt=0)
    seed: int = 0


class RefactoringRequest(Request):
    """Improve the component's source without changing its behaviour."""

    kind: Literal["refactoring"] = "refactoring"
    engine: str = "auto"


class CollectionRequest(Request):
    """Put refactoring and tests on one tree, verify it, and keep what holds."""

    kind: Literal["collection"] = "collection"
    target: Target
    gates: Gates


class DeploymentRequest(Request):
    """Release the collected tree to one environment."""

    kind: Literal["deployment"] = "deployment"
    environment: Name
    #: An earlier release to go back to, instead of deploying what was collected.
    back_to: Digest | None = None


AnyRequest = Annotated[
    TestingRequest | GenerationRequest | RefactoringRequest | CollectionRequest | DeploymentRequest,
    Field(discriminator="kind"),
]


# -- results ----------------------------------------------------------------------------------------------------------


class ErrorInfo(Model):
    """A fault, as data."""

    #: Class name from :mod:`tta_tasks.errors`, or of the unexpected exception.
    type: str
    message: str
    hint: str = ""
    transient: bool = False


class Result(Record):
    """What every task answers. A task that fails answers, too: it never raises into its canvas."""

    status: Status
    error: ErrorInfo | None = None
    #: Whether an earlier, identical task's result was taken.
    cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether the work was done."""
        return self.status is Status.COMPLETED

    @property
    def artifacts(self) -> tuple[Digest, ...]:
        """The artifacts it refers to."""
        found = (getattr(self, name, None) for name in ("patch", "tree", "tests_patch", "refactoring_patch"))
        return tuple(digest for digest in found if digest)


class Usage(Model):
    """What agents took for a piece of work."""

    #: The models that answered, by their names in the registry.
    models: tuple[str, ...] = ()
    #: Answers of a model, and times an agent was set to work.
    calls: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            models=tuple(dict.fromkeys((*self.models, *other.models))),
            calls=self.calls + other.calls,
            attempts=self.attempts + other.attempts,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


class TestingResult(Result):
    """The baseline."""

    __test__ = False

    kind: Literal["testing"] = "testing"
    suite: SuiteReport | None = None
    #: Python version of the component's environment, and the sandbox's level there.
    python: str = ""
    sandbox: str = ""


class AcceptedTest(Model):
    """A generated test that earned its place."""

    #: Function name, with ``[id]`` where parametrised.
    name: str
    #: Why it is kept: ``coverage`` or ``mutant``.
    reason: str
    #: Ids of the criteria it speaks to, where known.
    criteria: tuple[str, ...] = ()


class RejectedTest(Model):
    """A generated test that did not."""

    name: str
    #: A short code (``fails``, ``flaky``, ``no_assertion``, ``duplicate``, ``adds_nothing``, ``disputed`` ...).
    reason: str
    detail: str = ""


class GenerationResult(Result):
    """The tests of one module."""

    kind: Literal["generation"] = "generation"
    module: Module | None = None
    #: The engines that contributed, with versions.
    engines: tuple[str, ...] = ()
    coverage_before: ModuleCoverage | None = None
    coverage_after: ModuleCoverage | None = None
    accepted: tuple[AcceptedTest, ...] = ()
    rejected: tuple[RejectedTest, ...] = ()
    #: Test files written, relative to the snapshot's root.
    files: tuple[RelativePath, ...] = ()
    #: The patch that adds them; ``None`` when nothing was kept.
    patch: Digest | None = None
    rounds: int = 0
    #: Whether ``coverage_threshold`` was reached.
    threshold_met: bool = False
    #: What agents took for it.
    usage: Usage = Usage()
    #: What an engine could not do, where another did the work.
    notes: tuple[str, ...] = ()


class RefactoringStep(Model):
    """One kind of change, verified on its own."""

    name: str
    #: ``kept``, ``dropped`` or ``nothing`` (it found nothing to change).
    outcome: Literal["kept", "dropped", "nothing"]
    #: Why it was dropped, or what it did.
    detail: str = ""
    files: tuple[RelativePath, ...] = ()


class RefactoringResult(Result):
    """The refactoring."""

    kind: Literal["refactoring"] = "refactoring"
    engine: str = ""
    steps: tuple[RefactoringStep, ...] = ()
    patch: Digest | None = None
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()


class GateOutcome(Model):
    """One gate's verdict."""

    #: The gate's entry point in ``tta_tasks.gates``.
    name: Name
    #: ``passed``, ``failed``, ``reported`` (found something, but does not stop this target), ``parked`` (a person
    #: decides) or ``off``.
    outcome: Literal["passed", "failed", "reported", "parked", "off"]
    #: ``82.1 % of 80 %``, ``3 new findings``.
    detail: str
    findings: tuple[str, ...] = ()
    #: What to do, where it failed.
    remedy: str = ""
    #: What a person is asked to decide, where it is parked.
    waits_for: str = ""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if (self.outcome == "parked") != bool(self.waits_for):
            raise ValueError("A parked gate, and no other, says in waits_for what a person has to decide.")
        return self


class Dropped(Model):
    """A contribution that did not hold together with the others."""

    #: ``refactoring``, the path of a test file, or that of a module some of whose coverage is not believed.
    what: str
    reason: str


class CollectionResult(Result):
    """The combined tree."""

    kind: Literal["collection"] = "collection"
    #: The combined tree as a snapshot; what is deployed.
    tree: Digest | None = None
    #: Patches against the run's snapshot: all tests, then the refactoring on top of it.
    tests_patch: Digest | None = None
    refactoring_patch: Digest | None = None
    dropped: tuple[Dropped, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    suite: SuiteReport | None = None
    coverage_before: Percent | None = None
    coverage_after: Percent | None = None


class Check(Model):
    """One check of a release."""

    name: str
    ok: bool
    detail: str = ""


class DeploymentResult(Result):
    """A release in one environment."""

    kind: Literal["deployment"] = "deployment"
    environment: str = ""
    #: Content address of what was released.
    release: Digest | None = None
    #: ``released``, ``unchanged`` (this release was already current) or ``rolled_back``.
    action: Literal["released", "unchanged", "rolled_back", ""] = ""
    #: Where it is: a path or a URL.
    location: str = ""
    previous: Digest | None = None
    checks: tuple[Check, ...] = ()


class ReleaseEntry(Model):
    """A line of an environment's history."""

    at: float
    #: ``switching`` says what is about to be tried; the others what came of it, ``interrupted`` found out later.
    #: ``returned``: gone back to, because somebody asked for it.
    what: Literal["switching", "released", "returned", "rolled_back", "interrupted"]
    #: The release it is about.
    release: Digest
    #: The release in use before.
    previous: Digest | None = None
    #: The run and the task that did it, where known.
    run_id: str = ""
    task_id: str = ""


class EnvironmentRecord(Record):
    """What was released of one component to one environment, as its deployment worker last told."""

    environment: Name
    component: Component
    #: The tree that was deployed last.
    snapshot: Digest
    #: The release in use.
    current: Digest | None = None
    #: What happened, oldest first.
    entries: tuple[ReleaseEntry, ...] = ()


AnyResult = Annotated[
    TestingResult | GenerationResult | RefactoringResult | CollectionResult | DeploymentResult,
    Field(discriminator="kind"),
]


# -- what is remembered -----------------------------------------------------------------------------------------------


class Promotion(Model):
    """What a parked deployment waits for, as the targets of the deployment worker have it. Times are epoch seconds."""

    waits_for: Literal["soak", "approval"]
    #: The environment that must hold the release, in health, before; ``None`` where only a gate asks for approval.
    after: Name | None = None
    #: When it was parked first.
    since: float
    #: When ``after`` has held the release for long enough.
    soaked_at: float
    #: Whether a person has to approve.
    approval: bool
    #: The Redis users one of whom it has to be; empty for anybody.
    approvers: tuple[str, ...] = ()
    #: Digest of the release that is to be approved; empty where ``approvers`` is.
    release: str = ""
    #: Not approved by then, it ends as failed; ``None`` where no approval is needed.
    expires_at: float | None = None
    #: When to look at it again.
    due: float


class Decision(Model):
    """What a person said of a deployment; the first one counts."""

    outcome: Literal["approved", "rejected"]
    #: Who, as they named themselves: ``user@host`` unless told otherwise.
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    #: The Redis user who wrote it, where the target lists who may approve; else empty.
    user: str = ""
    #: Epoch seconds.
    at: float
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""


class TaskRecord(Record):
    """A task as the ledger knows it."""

    id: str
    run_id: str | None
    #: Name of the declared task, ``tta_tasks.generate_tests``.
    name: str
    stage: Stage
    #: What a person calls it: ``generate calculator.parser``.
    label: str
    queue: str
    #: Whether its run goes on, and may complete, when it fails.
    optional: bool = False
    #: Whether preconditions are checked before it begins.
    gated: bool = False
    priority: Priority
    status: Status = Status.QUEUED
    #: The latest thing it said of itself while running.
    progress: str = ""
    submitted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    worker: str = ""
    #: How many tasks its worker does at once; 0 while none has it.
    slots: int = 0
    #: How often it was started.
    attempts: int = 0
    #: How often it was lost while it ran, with its worker or its process.
    losses: int = 0
    #: Until when its worker holds it without a sign of life; 0 while nobody does.
    lease_until: float = 0.0
    #: How many tasks must end before it can begin.
    unmet: int = 0
    #: When its message was last published.
    published_at: float = 0.0
    #: When it ends as failed, done or not.
    deadline: float | None = None
    #: What it was parked for, and what a person decided; kept when it goes on.
    promotion: Promotion | None = None
    decision: Decision | None = None
    request: AnyRequest
    result: AnyResult | None = None


class Mode(StrEnum):
    """How the middle of a run is composed."""

    #: One task after another.
    SYNC = "sync"
    #: Generation and refactoring side by side.
    ASYNC = "async"


class RunPlan(Record):
    """A run as it was asked for."""

    id: str
    created_at: float
    #: The spec's title, and its file's name.
    title: str
    spec: str
    #: What a person would call the repository, and its commit where it has one.
    repository: str
    commit: str = ""
    component: Component
    criteria: tuple[Criterion, ...] = ()
    target: Target
    mode: Mode
    gates: Gates
    snapshot: Digest
    #: What the person should know about the input, one sentence each.
    warnings: tuple[str, ...] = ()
    #: Ids of its tasks, in the order of the canvas.
    task_ids: tuple[str, ...] = ()


class RunRecord(Model):
    """A run as the ledger knows it."""

    plan: RunPlan
    tasks: tuple[TaskRecord, ...]
    cancelled: bool = False

    @property
    def status(self) -> Status:
        """Derived from its tasks: running until all are terminal; failed where one that decides has failed.

        Parked while one of them is, and nothing runs.
        A module whose tests could not be generated, or a refactoring that was dropped, does not fail a run.
        """
        if not all(task.status.terminal for task in self.tasks):
            return ongoing(task.status for task in self.tasks)
        if self.cancelled:
            return Status.CANCELLED
        deciding = [task for task in self.tasks if not task.optional]
        return Status.COMPLETED if all(task.status is Status.COMPLETED for task in deciding) else Status.FAILED


def ongoing(statuses: Iterable[Status]) -> Status:
    """One status for several tasks of which not all have ended."""
    found = set(statuses)
    if Status.PARKED in found and Status.RUNNING not in found:
        return Status.PARKED
    return Status.QUEUED if found == {Status.QUEUED} else Status.RUNNING


class Event(Model):
    """Something that happened to a task."""

    run_id: str
    task_id: str
    at: float
    #: ``progress``, a :class:`Status` value, ``approved`` or ``rejected``.
    what: str
    message: str = ""
    worker: str = ""


class _Ended(Model):
    #: Position in the stream of ends; the same whenever this end is told again.
    id: str
    version: Literal[1] = 1
    at: float
    status: Status
    #: The run that has ended, or the task's; empty for a task of no run.
    run_id: str


class RunEnd(_Ended):
    """A run has ended. What the ledger has forgotten since is empty."""

    event: Literal["run.ended"] = "run.ended"
    title: str = ""
    component: str = ""
    target: Target | None = None
    repository: str = ""
    commit: str = ""
    created_at: float | None = None


class TaskEnd(_Ended):
    """A task has ended. What the ledger has forgotten since is empty."""

    event: Literal["task.ended"] = "task.ended"
    task_id: str
    name: str = ""
    stage: Stage | None = None
    label: str = ""
    worker: str = ""
    attempts: int = 0
    error: ErrorInfo | None = None


#: What observers are told.
End = RunEnd | TaskEnd
