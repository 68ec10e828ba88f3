"""The runs that every test must stand: alone, together, and under other circumstances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.acceptance.candidates import Candidates
from workers.acceptance.runner import CandidateRun, TestRunner
from workers.component.probing import ExecutedCode, RunConditions

#: How often a run is repeated without what took it down.
ATTEMPTS = 5

#: Circumstances of the runs in one process. POSIX time zones: no database of them is needed.
ROUNDS = (RunConditions("1", "JST-9"), RunConditions("2", "EST5EDT"), RunConditions("3", "NST3:30"))

_REASONS = {"skipped": "skipped", "hangs": "hangs", "crashes": "crashes"}


@dataclass(frozen=True)
class SuiteProfile:
    """What the component's own tests do, where they were run with the candidates."""

    #: Node id -> lines of the module.
    lines: dict[str, frozenset[int]] = field(default_factory=dict)
    #: Node id -> seconds.
    durations: dict[str, float] = field(default_factory=dict)


class Trials:
    """Runs the candidates, and turns down what does not stand it.

    Args:
        candidates: What is run.
        runner: Runs them.
        suite_paths: Paths of the component's own tests to run with them; may be empty.
    """

    def __init__(self, candidates: Candidates, runner: TestRunner, suite_paths: Sequence[str]) -> None:
        self.candidates = candidates
        self.runner = runner
        self.suite_paths = suite_paths

    def alone(self) -> ExecutedCode:
        """Each test in a process of its own: finds failures, hangs, crashes and leaks.

        Returns:
            What importing the candidates alone executes of the module.
        """
        run = self._collected()
        if run is None:
            return ExecutedCode()
        self.candidates.register(run.probed.cases)
        leaks = False
        for case in self.candidates.remaining():
            if case.outcome != "passed":
                why = reason_of(case.message) or run.probed.aborted
                self.candidates.reject(case, _REASONS.get(case.outcome, "fails"), why)
            elif case.left:
                leaks = True
                self.candidates.reject(case, "leaks", "; ".join(case.left[:5]))
        if run.changed and not leaks:
            self.candidates.reject_all("leaks", f"file: {run.changed[0]}, when it is imported")
        return run.probed.imported

    def _collected(self) -> CandidateRun | None:
        """A run in which every file could be collected; those that cannot are turned down."""
        for _ in range(ATTEMPTS):
            if not self.candidates.drafts:
                return None
            run = self.runner.alone(self.candidates.files)
            probed = run.probed
            bad = {node: reason_of(message) for node, message in probed.collect_errors.items()}
            if probed.aborted and not probed.cases:
                bad = dict.fromkeys([probed.culprit] if probed.culprit else self.candidates.drafts, probed.aborted)
            drafts = [
                (draft, node) for draft in self.candidates.drafts.values() for node in bad if _names(node, draft.path)
            ]
            for draft, node in drafts:
                self.candidates.reject_file(draft, "fails", f"cannot be collected: {bad[node]}")
            if not drafts:
                return run
        self.candidates.reject_all("fails", "cannot be collected")
        return None

    def together(self, seed: int) -> SuiteProfile:
        """All in one process: with the component's own tests, then in random order under other circumstances."""
        existing = SuiteProfile()
        first = self._stable(ROUNDS[0], self.suite_paths)
        if first is not None and self.suite_paths:
            existing = self._existing(first)
            self._reject_disturbing(first)
        second = self._stable(shuffled(ROUNDS[1], seed), ())
        if second is not None and second.changed:
            self.candidates.reject_all("leaks", f"file: {second.changed[0]}")
        return existing

    def _stable(self, conditions: RunConditions, suite_paths: Sequence[str]) -> CandidateRun | None:
        """A run that came to its end; tests that do not pass in it, or that took it down, are turned down."""
        aborted = ""
        for _ in range(ATTEMPTS):
            if not self.candidates.remaining():
                return None
            run = self.runner.together(self.candidates.files, conditions, self.candidates.rejected_ids, suite_paths)
            self._reject_failing(run, conditions)
            aborted = run.probed.aborted
            if not aborted:
                return run
        self.candidates.reject_all("flaky", f"{describe(conditions)} {aborted}")
        return None

    def _reject_failing(self, run: CandidateRun, conditions: RunConditions) -> None:
        for case in self.candidates.remaining():
            now = run.probed.cases.get(case.id)
            outcome = now.outcome if now else "unfinished"
            spared = outcome == "unfinished" and run.probed.aborted and run.probed.culprit != case.id
            if now is None and not run.probed.aborted:
                self.candidates.reject(case, "not_collected", "pytest does not find it when it runs the tests folder")
            elif outcome != "passed" and not spared:
                why = reason_of(now.message) if now else ""
                self.candidates.reject(case, "flaky", f"passed alone, {outcome} {describe(conditions)} {why}".rstrip())

    def _existing(self, run: CandidateRun) -> SuiteProfile:
        contexts = run.probed.contexts.get(self.runner.module.path, {})
        lines = {test: found for test, found in contexts.items() if test not in self.candidates.cases}
        return SuiteProfile(lines, {test: run.probed.cases[test].duration_s for test in lines})

    def _reject_disturbing(self, run: CandidateRun) -> None:
        """The component's own tests were green without the candidates; they must be green with them, too."""
        own = set(run.probed.cases) - set(self.candidates.cases)
        failing = _failing(run, own)
        if failing and self.candidates.remaining():
            again = self.runner.together(
                self.candidates.files, ROUNDS[0], self.candidates.rejected_ids, self.suite_paths
            )
            if still := failing & _failing(again, own):
                self.candidates.reject_all("disturbs", f"{min(still)} fails with it")


def shuffled(conditions: RunConditions, seed: int) -> RunConditions:
    """``conditions`` in random order."""
    return RunConditions(conditions.hash_seed, conditions.timezone, seed)


def describe(conditions: RunConditions) -> str:
    """``conditions`` in words."""
    order = "together" if conditions.seed is None else f"in random order {conditions.seed}"
    return f"{order}, hash seed {conditions.hash_seed}, time zone {conditions.timezone}:"


def reason_of(message: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = message.strip().splitlines()
    marked = [line for line in lines if line.startswith("E  ")]
    return (marked or lines or [""])[0].removeprefix("E").strip()[:300]


def _failing(run: CandidateRun, among: set[str]) -> set[str]:
    cases = run.probed.cases
    return {name for name in among if name in cases and cases[name].outcome in {"failed", "error"}}


def _names(node_id: str, path: str) -> bool:
    """Whether a node id means a file; node ids are relative to pytest's root, above or below the project."""
    return f"/{path}".endswith(f"/{node_id}") or f"/{node_id}".endswith(f"/{path}")
