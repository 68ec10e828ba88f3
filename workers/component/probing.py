"""Starts the probe (:mod:`workers.probe`) in a component's interpreter and reads what it saw."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tta_tasks.protocols import Completed, Limits, Workspace
from workers import probe
from workers.probe.config import ProbeConfig

#: Shells and ``unshare`` report a child's death by signal as this much more than the signal.
_SIGNAL_STATUS = 128
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
class ProbeResult:
    """One run of pytest, seen from inside."""

    cases: Mapping[str, CollectedTest]
    #: File -> why it could not be collected.
    collect_errors: Mapping[str, str]
    #: Module -> figures of :mod:`workers.probe.measure`.
    coverage: Mapping[str, Mapping[str, Any]]
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
        config: What; its ``event_log`` and ``scratch`` are set here.
        conditions: Under which circumstances.
        limits: Bounds of the whole run; without, those of the workspace.

    Raises:
        SandboxError: The interpreter cannot be started.
    """
    limits = limits or workspace.limits
    # A fresh copy each time: the scratch folder is writable for what runs there.
    home = Path(tempfile.mkdtemp(prefix="probe-", dir=workspace.scratch))
    try:
        shutil.copytree(Path(probe.__file__).parent, home / "tta_probe", ignore=shutil.ignore_patterns("__pycache__"))
        event_log, settings = home / "events.jsonl", home / "config.json"
        settings.write_text(replace(config, event_log=str(event_log), scratch=str(home)).dump(), encoding="utf-8")
        completed = workspace.run_python(
            "-m",
            "tta_probe",
            settings,
            env={
                "PYTHONPATH": f"{workspace.import_root}:{home}",
                "PYTHONHASHSEED": conditions.hash_seed,
                "TZ": conditions.timezone,
                "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
            },
            limits=limits,
        )
        return _read(list(_events(event_log)), completed, limits)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _events(event_log: Path) -> Iterable[dict[str, Any]]:
    if not event_log.exists():
        return
    with event_log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # cut off where its writer was killed
                yield json.loads(line)


def _read(events: list[dict[str, Any]], completed: Completed, limits: Limits) -> ProbeResult:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_kind.setdefault(event.pop("event"), []).append(event)
    cases = _cases(by_kind)
    culprit = _under_way(by_kind, cases)
    last = {kind: found[-1] for kind, found in by_kind.items()}
    aborted = _aborted(last, completed, limits, culprit)
    return ProbeResult(
        cases=cases,
        collect_errors={event["id"]: event["message"] for event in by_kind.get("collect-error", ())},
        coverage=last.get("coverage", {}).get("modules", {}),
        imported=_executed(last.get("imported", {})),
        mutants=tuple(
            MutantRun(event["line"], event["operator"], tuple(event["killers"])) for event in by_kind.get("mutant", ())
        ),
        duration_s=completed.duration_s,
        aborted=aborted,
        culprit=culprit if aborted else "",
    )


def _cases(by_kind: Mapping[str, list[dict[str, Any]]]) -> dict[str, CollectedTest]:
    cases = {event["id"]: CollectedTest(**event) for event in by_kind.get("collected", ())}
    told: list[tuple[str, Callable[[CollectedTest, Mapping[str, Any]], CollectedTest]]] = [
        ("report", _reported),
        ("ended", lambda case, event: replace(case, outcome=event["outcome"], message=event["message"])),
        ("left", lambda case, event: replace(case, left=(*case.left, f"{event['kind']}: {event['what']}"))),
        ("executed", lambda case, event: replace(case, executed=_executed(event))),
    ]
    for kind, told_of in told:
        for event in by_kind.get(kind, ()):
            if event["id"] in cases:
                cases[event["id"]] = told_of(cases[event["id"]], event)
    return cases


def _reported(case: CollectedTest, report: Mapping[str, Any]) -> CollectedTest:
    outcome = report["outcome"]
    if outcome == "failed" and report["when"] != "call":
        outcome = "error"
    if case.outcome in {"failed", "error"}:  # the first failure is the one to tell
        return case
    return replace(case, outcome=outcome, message=report["message"], duration_s=case.duration_s + report["duration"])


def _executed(event: Mapping[str, Any]) -> ExecutedCode:
    return ExecutedCode(
        frozenset(event.get("lines", ())), frozenset((start, end) for start, end in event.get("branches", ()))
    )


def _under_way(by_kind: Mapping[str, list[dict[str, Any]]], cases: Mapping[str, CollectedTest]) -> str:
    started = by_kind.get("start", ())
    if started:
        last: str = started[-1]["id"]
        return last if last not in cases or cases[last].outcome == "unfinished" else ""
    collecting = by_kind.get("collecting", ()) if not cases else ()
    return str(collecting[-1]["id"]) if collecting else ""


def _aborted(last: Mapping[str, Mapping[str, Any]], completed: Completed, limits: Limits, culprit: str) -> str:
    where = f" in {culprit}" if culprit else ""
    if completed.stopped == "time":
        return f"timed out after {limits.wall_s:g} s{where}"
    if completed.stopped == "cancelled":
        return "cancelled"
    if "interrupted" in last:
        return f"interrupted{where}: {last['interrupted']['message']}"
    if "finish" not in last:
        return f"{_death(completed.returncode)}{where}{_last_words(completed, culprit)}"
    status = last["finish"]["status"]
    return "" if status in _ENDED else f"pytest could not run the tests: {_tail(completed)}"


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
    lines = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
    return " ".join(line.strip() for line in lines[-3:])[-500:] or "it said nothing"
