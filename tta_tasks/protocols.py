"""The seams: what an engine, a store and a sandbox must be able to do, and what they are given.

Engines are found by entry point (:mod:`tta_tasks.plugins`); implement one of these protocols and declare it, e.g.::

    [project.entry-points."tta_tasks.generators"]
    mine = "my_package:MyGenerator"
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from tta_tasks.models import (
    Check,
    Component,
    Criterion,
    End,
    GateOutcome,
    Gates,
    Module,
    ModuleCoverage,
    RefactoringStep,
    RejectedTest,
    ReleaseEntry,
    SuiteReport,
    Usage,
)


@runtime_checkable
class ArtifactStore(Protocol):
    """Keeps bytes under their sha256 digest."""

    def put(self, data: bytes) -> str:
        """Store ``data`` and return its digest. Storing the same bytes again costs nothing.

        Raises:
            ArtifactTooLarge: ``data`` is above the store's limit.
            StoreUnavailable: The store does not answer.
        """

    def get(self, digest: str) -> bytes:
        """Return the bytes of ``digest``, verified.

        Raises:
            ArtifactMissing: It never existed here, or has expired.
            StoreUnavailable: The store does not answer.
        """

    def has(self, digest: str) -> bool:
        """Whether :meth:`get` would find it; also renews its expiry."""

    def prune(self) -> int:
        """Remove what has expired, where the store does not do so by itself; answers how many artifacts."""

    def evict(self, needed: Callable[[], Collection[str]]) -> int:
        """Remove what was used least recently, where the store has a bound and is above it; answers how many artifacts.

        Args:
            needed: Digests that must stay; asked only if something must go.

        Raises:
            StoreUnavailable: The store does not answer.
        """


@dataclass(frozen=True)
class Limits:
    """Bounds of one command in the sandbox."""

    #: Seconds of wall time for the whole process tree.
    wall_s: float = 600.0
    #: Seconds of CPU time for each process.
    cpu_s: int | None = None
    #: Bytes of address space for each process.
    memory_bytes: int = 4 << 30
    #: Processes and threads beside those already there.
    processes: int = 512
    #: Bytes of the largest file it may write.
    file_bytes: int = 256 << 20
    #: Bytes of standard output and error kept, each; the rest is read and thrown away.
    output_bytes: int = 1 << 20
    #: Seconds it is given to end by itself (SIGTERM) when it is to be ended before it is killed.
    grace_s: float = 0.0


@dataclass(frozen=True)
class Completed:
    """A command that ended in the sandbox."""

    argv: tuple[str, ...]
    #: Exit status; negative: killed by that signal.
    returncode: int
    #: The end of what it printed, decoded with replacement characters.
    stdout: str
    stderr: str
    duration_s: float
    #: Why the sandbox ended it: ``time`` or ``cancelled``; ``None`` when it ended by itself.
    stopped: Literal["time", "cancelled"] | None = None

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.stopped is None and self.returncode == 0


class Sandbox(Protocol):
    """Runs all code that is not ours."""

    @property
    def level(self) -> str:
        """How strong it is here: ``bubblewrap``, ``namespaces``, ``landlock`` ..., or ``process-group``."""

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path,
        writable: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits = Limits(),
        stdin: str | None = None,
        network: bool = False,
        cancelled: Callable[[], bool] | None = None,
        output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run ``argv`` to its end, with a scrubbed environment, and leave no process of it behind.

        Args:
            argv: Command and arguments; no shell.
            cwd: Where it starts.
            writable: What it may write to, beside its own temporary folder.
            readable: Further files and folders that it may see: what it needs beside the system's own programs, our own
                interpreter, ``cwd`` and ``writable``. Never taken from what foreign code has written.
            env: Added to the scrubbed environment.
            limits: Its bounds.
            stdin: Text for its standard input; without, it reads the end of the file.
            network: Whether it may reach more than its own loopback.
            cancelled: Asked about once a second; on ``True`` the command is ended.
            output: Given all it prints, as it comes; for commands that run for long.

        Raises:
            SandboxError: The command cannot be started.
        """


@dataclass(frozen=True)
class Workspace:
    """A component checked out on a worker, ready to be worked on. Lives as long as one task."""

    #: The checked-out tree.
    root: Path
    component: Component
    #: Interpreter of the component's own environment: its dependencies, pytest, coverage, hypothesis.
    python: Path
    sandbox: Sandbox
    #: An empty folder beside the tree, for whatever must not be part of it.
    scratch: Path
    #: What the interpreter needs to see beside the tree: its environment, and the installation that was made from.
    readable: tuple[Path, ...] = ()
    #: Bounds of a command, unless it is given its own.
    limits: Limits = field(default_factory=Limits)
    #: Says to whoever watches what is being done now.
    progress: Callable[[str], None] = field(default=lambda _message: None)
    cancelled: Callable[[], bool] = field(default=lambda: False)
    #: The task and the run it works for; empty outside of them. An engine may keep what it began under the task's id.
    task_id: str = ""
    run_id: str = ""
    #: Told what agents took, each time some of it is known.
    spend: Callable[[Usage], None] = field(default=lambda _usage: None)

    @property
    def project(self) -> Path:
        """The component's project folder."""
        return self.root / self.component.root

    @property
    def import_root(self) -> Path:
        """What goes on ``sys.path``."""
        return self.project / self.component.import_root

    @property
    def tests(self) -> Path:
        """The component's tests folder; it may not exist yet."""
        return self.project / self.component.tests

    def run_python(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        stdin: str | None = None,
    ) -> Completed:
        """Run the component's interpreter in the sandbox, in the project folder, with the component importable.

        The tree and the scratch folder are writable; nothing else is.
        """
        return self.sandbox.run(
            [self.python, *args],
            cwd=self.project,
            writable=[self.root, self.scratch],
            readable=self.readable,
            env={"PYTHONPATH": str(self.import_root), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            limits=limits or self.limits,
            stdin=stdin,
            cancelled=self.cancelled,
        )


@dataclass(frozen=True)
class CandidateTests:
    """A test file an engine proposes."""

    #: Relative to the component's project folder.
    path: str
    source: str
    #: Test function name -> ids of the criteria it speaks to, where the engine knows.
    criteria: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationJob:
    """What a generator is asked for."""

    workspace: Workspace
    module: Module
    #: Coverage of the module by the tests that are there, with what is missing.
    coverage: ModuleCoverage
    coverage_threshold: float
    criteria: tuple[Criterion, ...]
    #: Where the tests should go, relative to the component's project folder.
    output_path: str
    budget_s: float
    seed: int
    #: 1 for the first round; later rounds bring what was rejected and the coverage reached so far.
    round: int = 1
    rejected: tuple[RejectedTest, ...] = ()


@runtime_checkable
class Generator(Protocol):
    """Writes tests. Nobody's word is taken: what it proposes goes through acceptance.

    One that needs longer than a search may say so by an attribute ``budget_s``: seconds it may take at least.
    """

    name: str
    #: Part of the cache key: change it when the same request may give other tests.
    version: str

    def available(self) -> str:
        """Why it cannot work on this host, or an empty string."""

    def generate(self, job: GenerationJob) -> Sequence[CandidateTests]:
        """Propose test files for ``job.module``.

        Raises:
            EngineFailed: It gave up.
            TransientError: It may work later.
        """


@dataclass(frozen=True)
class RefactoringOutcome:
    """What a refactorer did to the tree of its workspace."""

    steps: tuple[RefactoringStep, ...]


@runtime_checkable
class Refactorer(Protocol):
    """Changes the component's source in place, without changing its behaviour."""

    name: str
    version: str

    def available(self) -> str:
        """Why it cannot work on this host, or an empty string."""

    def refactor(self, workspace: Workspace, verify: Callable[[], str]) -> RefactoringOutcome:
        """Change ``workspace`` step by step.

        Args:
            workspace: The tree to change.
            verify: Runs the suite, the public-API comparison and the imports on a copy of the tree as it was, with the
                component's modules as they are now; answers why that does not hold, or an empty string.

        Raises:
            EngineFailed: It gave up.
        """


@dataclass(frozen=True)
class ReleaseRequest:
    """What a deployer is asked for."""

    component: Component
    environment: str
    #: Content address of the release.
    digest: str
    #: The built distribution (a wheel), verified; ``None`` where nothing is to be installed, or an earlier release is
    #: gone back to and this host has its wheel no more.
    artifact: Path | None
    sandbox: Sandbox
    #: The deployer's own table of the target, from the deployment worker's configuration.
    target: Mapping[str, object]
    #: Fencing token: when the deployment was first begun, however often since. One that is older than the newest the
    #: environment has seen must not replace what is there.
    token: float = 0.0
    #: Whether it is an earlier release that is gone back to.
    back: bool = False
    #: Who asks: for the history.
    run_id: str = ""
    task_id: str = ""
    progress: Callable[[str], None] = field(default=lambda _message: None)


@dataclass(frozen=True)
class Release:
    """What a deployer did."""

    action: Literal["released", "unchanged", "rolled_back"]
    location: str
    previous: str | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class History:
    """What an environment has seen."""

    #: The release in use.
    current: str | None = None
    #: Oldest first, bounded.
    entries: tuple[ReleaseEntry, ...] = ()


@runtime_checkable
class Deployer(Protocol):
    """Brings a release to an environment, and back."""

    name: str

    def release(self, request: ReleaseRequest) -> Release:
        """Make ``request.digest`` the current release, checked; on a failed check go back to the previous one.

        Calling it again with the current release changes nothing and answers ``unchanged``.

        Raises:
            DeploymentFailed: It could not be built, a newer deployment has come before it, or not even the previous
                release holds.
        """

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """See whether ``request.digest`` is in use, and works; change nothing. Its ``artifact`` is not needed.

        Raises:
            DeploymentFailed: The target cannot be made sense of.
        """

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Digests of the releases that can be gone back to, the one before the current first."""

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:
        """The release in use, and what happened."""


@runtime_checkable
class Observer(Protocol):
    """Is notified of each run that has ended, at least once, by one worker at a time.

    Nothing waits for it. A call that raises, or takes longer than ``TTA_OBSERVER_TIMEOUT_S``, is repeated later.
    """

    name: str
    #: Whether it is notified of each task, too.
    tasks: bool

    def available(self) -> str:
        """Why it is not notified on this host, or an empty string."""

    def ended(self, end: End) -> None:
        """Process ``end``; one that is repeated has the same ``id``.

        Raises:
            Exception: Anything; the call is repeated later.
        """


@dataclass(frozen=True)
class GateJob:
    """A tree to judge."""

    #: The tree, where nothing has run yet. Gates look at it side by side, and change nothing.
    workspace: Workspace
    #: The tree as it was when the run began, in the same environment.
    baseline: Workspace
    #: What the tests of ``workspace`` gave.
    suite: SuiteReport
    #: What the target asks for.
    gates: Gates
    #: Python test files added since, relative to the root.
    tests: tuple[str, ...] = ()


@runtime_checkable
class Gate(Protocol):
    """Decides whether a collected tree is good enough for its target."""

    #: The name of its entry point.
    name: str
    #: Whether a refactoring can make it fail. Such a refactoring is dropped.
    of_the_source: bool

    def judge(self, job: GateJob) -> GateOutcome:
        """Judge a tree.

        Raises:
            EngineFailed: It comes to no verdict. The gate fails where it is enforced, else this is reported.
        """

    def remedy(self, job: GateJob) -> str:
        """What a person can do when this gate fails, as a clause: ``mend the failing tests``."""
