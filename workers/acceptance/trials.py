"""The runs that every test must stand: alone, together, and under other circumstances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.acceptance.candidates import Pool
from workers.acceptance.runner import Bench, Trial
from workers.component.probing import Reach, Surroundings

#: How often a run is repeated without what took it down.
ATTEMPTS = 5

#: Circumstances of the runs in one process. POSIX time zones: no database of them is needed.
ROUNDS = (Surroundings("1", "JST-9"), Surroundings("2", "EST5EDT"), Surroundings("3", "NST3:30"))

_REASONS = {"skipped": "skipped", "hangs": "hangs", "crashes": "crashes"}


@dataclass(frozen=True)
class Existing:
    """What the component's own tests do, where they were run beside the candidates."""

    #: Node id -> lines of the module.
    lines: dict[str, frozenset[int]] = field(default_factory=dict)
    #: Node id -> seconds.
    durations: dict[str, float] = field(default_factory=dict)


class Trials:
    """Runs what is in the pool, and turns down what does not stand it.

    Args:
        pool: The candidates.
        bench: Runs them.
        beside: Paths of the component's own tests to run beside them; may be empty.
    """

    def __init__(self, pool: Pool, bench: Bench, beside: Sequence[str]) -> None:
        self.pool = pool
        self.bench = bench
        self.beside = beside

    def alone(self) -> Reach:
        """Each test in a process of its own: finds failures, hangs, crashes and leaks.

        Returns:
            What importing the candidates alone executes of the module.
        """
        trial = self._collected()
        if trial is None:
            return Reach()
        self.pool.enter(trial.probed.cases)
        leaks = False
        for case in self.pool.alive():
            if case.outcome != "passed":
                why = reason_of(case.message) or trial.probed.aborted
                self.pool.drop(case, _REASONS.get(case.outcome, "fails"), why)
            elif case.left:
                leaks = True
                self.pool.drop(case, "leaks", "; ".join(case.left[:5]))
        if trial.changed and not leaks:
            self.pool.drop_everything("leaks", f"file: {trial.changed[0]}, when it is imported")
        return trial.probed.imported

    def _collected(self) -> Trial | None:
        """A run in which every file could be collected; those that cannot are turned down."""
        for _ in range(ATTEMPTS):
            if not self.pool.drafts:
                return None
            trial = self.bench.alone(self.pool.files)
            probed = trial.probed
            bad = {node: reason_of(message) for node, message in probed.collect_errors.items()}
            if probed.aborted and not probed.cases:
                bad = dict.fromkeys([probed.culprit] if probed.culprit else self.pool.drafts, probed.aborted)
            drafts = [(draft, node) for draft in self.pool.drafts.values() for node in bad if _names(node, draft.path)]
            for draft, node in drafts:
                self.pool.drop_file(draft, "fails", f"cannot be collected: {bad[node]}")
            if not drafts:
                return trial
        self.pool.drop_everything("fails", "cannot be collected")
        return None

    def together(self, seed: int) -> Existing:
        """All in one process: beside the component's own tests, then in random order under other circumstances."""
        existing = Existing()
        first = self._stable(ROUNDS[0], self.beside)
        if first is not None and self.beside:
            existing = self._existing(first)
            self._drop_what_disturbs(first)
        second = self._stable(shuffled(ROUNDS[1], seed), ())
        if second is not None and second.changed:
            self.pool.drop_everything("leaks", f"file: {second.changed[0]}")
        return existing

    def _stable(self, around: Surroundings, beside: Sequence[str]) -> Trial | None:
        """A run that came to its end; tests that do not pass in it, or that took it down, are turned down."""
        aborted = ""
        for _ in range(ATTEMPTS):
            if not self.pool.alive():
                return None
            trial = self.bench.together(self.pool.files, around, self.pool.out, beside)
            self._drop_what_fails(trial, around)
            aborted = trial.probed.aborted
            if not aborted:
                return trial
        self.pool.drop_everything("flaky", f"{described(around)} {aborted}")
        return None

    def _drop_what_fails(self, trial: Trial, around: Surroundings) -> None:
        for case in self.pool.alive():
            now = trial.probed.cases.get(case.id)
            outcome = now.outcome if now else "unfinished"
            spared = outcome == "unfinished" and trial.probed.aborted and trial.probed.culprit != case.id
            if now is None and not trial.probed.aborted:
                self.pool.drop(case, "not_collected", "pytest does not find it when it runs the tests folder")
            elif outcome != "passed" and not spared:
                why = reason_of(now.message) if now else ""
                self.pool.drop(case, "flaky", f"passed alone, {outcome} {described(around)} {why}".rstrip())

    def _existing(self, trial: Trial) -> Existing:
        lines: dict[str, frozenset[int]] = {}
        contexts = trial.probed.coverage[self.bench.module.path].get("contexts", {})
        for line, tests in contexts.items():
            for test in set(tests) - set(self.pool.cases):
                lines[test] = lines.get(test, frozenset()) | {int(line)}
        return Existing(lines, {test: trial.probed.cases[test].duration_s for test in lines})

    def _drop_what_disturbs(self, trial: Trial) -> None:
        """The component's own tests were green without the candidates; they must be green beside them, too."""
        own = set(trial.probed.cases) - set(self.pool.cases)
        failing = _failing(trial, own)
        if failing and self.pool.alive():
            again = self.bench.together(self.pool.files, ROUNDS[0], self.pool.out, self.beside)
            if still := failing & _failing(again, own):
                self.pool.drop_everything("disturbs", f"{min(still)} fails beside it")


def shuffled(around: Surroundings, seed: int) -> Surroundings:
    """``around`` in random order."""
    return Surroundings(around.hash_seed, around.timezone, seed)


def described(around: Surroundings) -> str:
    """``around`` in words."""
    order = "together" if around.seed is None else f"in random order {around.seed}"
    return f"{order}, hash seed {around.hash_seed}, time zone {around.timezone}:"


def reason_of(message: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = message.strip().splitlines()
    marked = [line for line in lines if line.startswith("E  ")]
    return (marked or lines or [""])[0].removeprefix("E").strip()[:300]


def _failing(trial: Trial, among: set[str]) -> set[str]:
    cases = trial.probed.cases
    return {name for name in among if name in cases and cases[name].outcome in {"failed", "error"}}


def _names(node_id: str, path: str) -> bool:
    """Whether a node id means a file; node ids are relative to pytest's root, above or below the project."""
    return f"/{path}".endswith(f"/{node_id}") or f"/{node_id}".endswith(f"/{path}")
