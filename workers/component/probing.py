"""Starts the probe (:mod:`workers.probe`) in a component's interpreter and reads what it saw.

Nothing of it is taken on trust: the referee lets through what keeps to the rules of a session, :mod:`.probe_events`
checks the shapes, and :class:`_Reading` that it fits together. What does not ends the run as ``aborted``.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from pathlib import Path

from tta_tasks.foreign import ForeignTree, discard
from tta_tasks.protocols import Completed, Limits, Workspace
from workers import probe
from workers.component import probe_events as told
from workers.probe import referee
from workers.probe.config import ProbeConfig

#: Shells and ``unshare`` report a child's death by signal as this much more than the signal.
_SIGNAL_STATUS = 128
#: What the referee prints at most: events, and a line of its own.
_MOST_TOLD = referee.MAX_EVENTS + 1024
#: pytest's exit statuses of a session that came to its end.
_ENDED = {0: "passed", 1: "tests failed", 5: "no tests"}


@dataclass(frozen=True)
class RunConditions:
    """What differs between two runs of the same tests."""

    hash_seed: str = "0"
    timezone: str = "UTC"
    #: Shuffles the tests; ``None`` keeps their order.
    seed: int | None = None


#: In order, with a fixed hash seed, in UTC.
DEFAULT_CONDITIONS = RunConditions()


@dataclass(frozen=True)
class ExecutedCode:
    """What was executed of a module."""

    lines: frozenset[int] = frozenset()
    branches: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class CollectedTest:
    """One test as pytest counts them: a function, or one row of a parametrised one."""

    #: pytest's node id.
    id: str
    #: Its place among all tests, before any shuffling.
    position: int
    #: Absolute path of its file.
    file: str
    #: Name of the function, and of the class around it.
    function: str
    owner: str = ""
    #: Parameter -> index of the row it came from.
    rows: Mapping[str, int] = field(default_factory=dict)
    #: ``passed``, ``failed``, ``error``, ``skipped``, ``hangs``, ``crashes``, or ``unfinished``.
    outcome: str = "unfinished"
    message: str = ""
    duration_s: float = 0.0
    #: What it did not put back, as ``kind: what``.
    left: tuple[str, ...] = ()
    executed: ExecutedCode = ExecutedCode()

    @property
    def name(self) -> str:
        """The node id without the file."""
        return self.id.partition("::")[2]

    @property
    def key(self) -> str:
        """The function, with its class where it has one: ``TestParser::test_empty``."""
        return f"{self.owner}::{self.function}" if self.owner else self.function


@dataclass(frozen=True)
class MutantRun:
    """A mutant that tests were run against."""

    line: int
    operator: str
    #: Node ids of the tests that noticed it.
    killers: tuple[str, ...]


@dataclass(frozen=True)
class ModuleFigures:
    """What was executed of a module, in lines and branches.

    Where it was counted in two ways, a line that only coverage.py has seen is missing, and ``disputed``.
    """

    covered: frozenset[int] = frozenset()
    missing: tuple[int, ...] = ()
    #: All branches; those that must not be taken are in no list.
    branches: int = 0
    missing_branches: tuple[tuple[int, int], ...] = ()
    #: Lines of a module that does not parse, which is wholly uncovered; else 0.
    broken: int = 0
    disputed: tuple[int, ...] = ()


@dataclass(frozen=True)
class ProbeResult:
    """One run of pytest, seen from inside."""

    cases: Mapping[str, CollectedTest]
    #: File -> why it could not be collected.
    collect_errors: Mapping[str, str]
    #: Module -> its figures; empty unless the session came to its end.
    coverage: Mapping[str, ModuleFigures]
    #: Module -> node id -> lines; only with contexts.
    contexts: Mapping[str, Mapping[str, frozenset[int]]]
    #: What importing the tests alone executes of the module in focus.
    imported: ExecutedCode
    mutants: tuple[MutantRun, ...]
    duration_s: float
    #: Why it did not come to its end, or empty.
    aborted: str = ""
    #: The test or file that was under way when it ended early, or empty.
    culprit: str = ""


def run_probe(
    workspace: Workspace,
    config: ProbeConfig,
    conditions: RunConditions = DEFAULT_CONDITIONS,
    limits: Limits | None = None,
) -> ProbeResult:
    """Run pytest as ``config`` says.

    Args:
        workspace: Where.
        config: What; its ``scratch`` is set here.
        conditions: Under which circumstances.
        limits: Bounds of the whole run; without, those of the workspace.

    Raises:
        SandboxError: The interpreter cannot be started.
    """
    limits = limits or workspace.limits
    # A fresh copy each time: the scratch folder is writable for what runs there.
    scratch, source = ForeignTree(workspace.scratch), ForeignTree(Path(probe.__file__).parent)
    home = workspace.scratch / f"probe-{secrets.token_hex(8)}"
    try:
        # A name that no module of the repository has.
        package = home / f"tta_probe_{secrets.token_hex(4)}"
        for file in source.files("*.py"):
            scratch.write_bytes(package / file.path, source.read_bytes(file.path))
        settings = home / "config.json"
        scratch.write_text(settings, replace(config, scratch=str(home)).dump())
        completed = workspace.run_python(
            "-I",
            "-S",
            package / "referee.py",
            settings,
            env={
                "PYTHONPATH": f"{workspace.import_root}:{home}",
                "PYTHONHASHSEED": conditions.hash_seed,
                "TZ": conditions.timezone,
                "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
            },
            limits=replace(limits, output_bytes=_MOST_TOLD),
        )
        return _Reading(config).result(completed, limits)
    finally:
        discard(home)


class _Reading:
    """Puts together what was told of one run.

    Args:
        config: What was asked for.
    """

    def __init__(self, config: ProbeConfig) -> None:
        self._config = config
        self._cases: list[CollectedTest] = []
        self._ids: set[str] = set()
        #: Numbers of the tests that have begun.
        self._started: set[int] = set()
        self._left: dict[int, list[str]] = {}
        self._collect_errors: dict[str, str] = {}
        self._figures: dict[str, ModuleFigures] = {}
        self._taken: dict[str, frozenset[tuple[int, int]]] = {}
        self._contexts: dict[str, dict[str, frozenset[int]]] = {}
        self._counted: set[str] = set()
        self._imported = ExecutedCode()
        self._mutants: list[MutantRun] = []
        self._interrupted: str | None = None
        self._finish: int | None = None
        self._exit: told.Exit | None = None
        #: The file or test under way.
        self._collecting = ""
        self._last: int | None = None

    def result(self, completed: Completed, limits: Limits) -> ProbeResult:
        """What was told, as far as it can be believed."""
        why = ""
        try:
            for event in told.events(completed.stdout):
                self._take(event)
        except told.Untold as error:
            why = f"what was told of the tests is not believed: {error}"
        culprit = self._under_way()
        ended = not why and self._finish is not None and self._exit == told.Exit(status=0, refused="")
        aborted = self._stopped(completed, limits, culprit) or why or self._aborted(completed, culprit)
        return ProbeResult(
            cases={
                case.id: replace(case, left=tuple(self._left.get(number, ())))
                for number, case in enumerate(self._cases)
            },
            collect_errors=self._collect_errors,
            coverage=self._figures if ended else {},
            contexts=self._contexts if ended else {},
            imported=self._imported,
            mutants=tuple(self._mutants),
            duration_s=completed.duration_s,
            aborted=aborted,
            culprit=culprit if aborted else "",
        )

    # -- events -----------------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _take(self, event: told.Event) -> None:
        raise NotImplementedError(type(event))

    @_take.register
    def _(self, event: told.Collecting) -> None:
        self._collecting = event.id

    @_take.register
    def _(self, event: told.CollectError) -> None:
        self._collect_errors[event.id] = event.message

    @_take.register
    def _(self, event: told.Collected) -> None:
        if event.id in self._ids:
            raise told.Untold("a test that is collected twice")
        self._ids.add(event.id)
        self._cases.append(CollectedTest(**event.model_dump()))

    @_take.register
    def _(self, event: told.Start) -> None:
        self._case(event.test, started=False)
        self._started.add(event.test)
        self._last = event.test

    @_take.register
    def _(self, event: told.Report) -> None:
        case = self._case(event.test)
        outcome = "error" if event.outcome == "failed" and event.when != "call" else event.outcome
        if case.outcome not in {"failed", "error"}:  # the first failure is the one to tell
            duration = case.duration_s + event.duration
            self._cases[event.test] = replace(case, outcome=outcome, message=event.message, duration_s=duration)

    @_take.register
    def _(self, event: told.Ended) -> None:
        self._cases[event.test] = replace(self._case(event.test), outcome=event.outcome, message=event.message)

    @_take.register
    def _(self, event: told.Left) -> None:
        self._case(event.test)
        self._left.setdefault(event.test, []).append(f"{event.kind}: {event.what}")

    @_take.register
    def _(self, event: told.Executed) -> None:
        self._cases[event.test] = replace(self._case(event.test), executed=_executed(event))

    @_take.register
    def _(self, event: told.Imported) -> None:
        self._imported = _executed(event)

    @_take.register
    def _(self, event: told.Mutant) -> None:
        killers = tuple(self._case(number, started=False).id for number in event.killers)
        self._mutants.append(MutantRun(event.line, event.operator, killers))

    @_take.register
    def _(self, event: told.Interrupted) -> None:
        self._interrupted = event.message

    @_take.register
    def _(self, event: told.Measured) -> None:
        if set(event.covered) & set(event.missing) or event.branches < len(event.missing_branches):
            raise told.Untold("figures that contradict each other")
        self._measured(
            event.path,
            ModuleFigures(
                covered=frozenset(event.covered),
                missing=event.missing,
                branches=event.branches,
                missing_branches=event.missing_branches,
            ),
        )
        self._taken[event.path] = frozenset(event.covered_branches)

    @_take.register
    def _(self, event: told.Broken) -> None:
        self._measured(event.path, ModuleFigures(broken=event.lines))

    @_take.register
    def _(self, event: told.Context) -> None:
        case, lines = self._case(event.test, started=False), frozenset(event.lines)
        self._contexts.setdefault(self._known(event.path), {})[case.id] = lines

    @_take.register
    def _(self, event: told.Counted) -> None:
        if not self._config.counted or event.path in self._counted:
            raise told.Untold("a count that was not asked for")
        self._counted.add(self._known(event.path))
        figures = self._figures[event.path]
        if disputed := figures.covered & set(event.unseen or ()):
            self._figures[event.path] = _without(figures, disputed, self._taken.get(event.path, frozenset()))

    @_take.register
    def _(self, event: told.Finish) -> None:
        if self._figures.keys() != self._config.measure.keys():
            raise told.Untold("figures of other modules than it measures")
        whole = {path for path, figures in self._figures.items() if not figures.broken}
        if self._config.counted and whole - self._counted:
            raise told.Untold("figures that were not counted a second time")
        self._finish = event.status

    @_take.register
    def _(self, event: told.Exit) -> None:
        self._exit = event

    def _case(self, number: int, *, started: bool = True) -> CollectedTest:
        if number >= len(self._cases) or (started and number not in self._started):
            raise told.Untold("a test that was not begun" if started else "a test that was not collected")
        return self._cases[number]

    def _measured(self, path: str, figures: ModuleFigures) -> None:
        if path in self._figures or path not in self._config.measure:
            raise told.Untold("figures that were not asked for")
        self._figures[path] = figures

    def _known(self, path: str) -> str:
        if path not in self._figures:
            raise told.Untold("figures that were not asked for")
        return path

    # -- its end ----------------------------------------------------------------------------------------------------

    def _under_way(self) -> str:
        if self._last is not None:
            last = self._cases[self._last]
            return last.id if last.outcome == "unfinished" else ""
        return "" if self._cases else self._collecting

    def _stopped(self, completed: Completed, limits: Limits, culprit: str) -> str:
        if completed.stopped == "time":
            return f"timed out after {limits.wall_s:g} s{_in(culprit)}"
        return "cancelled" if completed.stopped == "cancelled" else ""

    def _aborted(self, completed: Completed, culprit: str) -> str:
        if self._exit is not None and self._exit.refused:
            return f"what was told of the tests is not believed: {self._exit.refused}{_in(culprit)}"
        if self._interrupted is not None:
            return f"interrupted{_in(culprit)}: {self._interrupted}"
        status = completed.returncode if self._exit is None else self._exit.status
        if self._exit is None or self._finish is None or status:
            return f"{_death(status)}{_in(culprit)}{_last_words(completed, culprit)}"
        return "" if self._finish in _ENDED else f"pytest could not run the tests: {_tail(completed)}"


def _executed(event: told.Imported) -> ExecutedCode:
    return ExecutedCode(frozenset(event.lines), frozenset(event.branches))


def _without(figures: ModuleFigures, disputed: frozenset[int], taken: frozenset[tuple[int, int]]) -> ModuleFigures:
    """``figures`` less the lines that only one count has seen, and the branches that lead from or to them."""
    branches = {branch for branch in taken if disputed & {*branch}} - set(figures.missing_branches)
    return replace(
        figures,
        covered=figures.covered - disputed,
        missing=tuple(sorted({*figures.missing, *disputed})),
        missing_branches=tuple(sorted({*figures.missing_branches, *branches})),
        disputed=tuple(sorted(disputed)),
    )


def _in(culprit: str) -> str:
    return f" in {culprit}" if culprit else ""


def _death(status: int) -> str:
    number = -status if status < 0 else status - _SIGNAL_STATUS
    try:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"the interpreter ended with status {status} before the tests did"


def _last_words(completed: Completed, culprit: str) -> str:
    # A test that kills its interpreter says nothing useful; one that does not start does.
    return "" if culprit else f": {_tail(completed)}"


def _tail(completed: Completed) -> str:
    lines = completed.stderr.strip().splitlines()
    return " ".join(line.strip() for line in lines[-3:])[-500:] or "it said nothing"
