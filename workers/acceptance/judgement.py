"""The way of candidates from their text to the files that are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_tasks.models import AcceptedTest, ModuleCoverage, RejectedTest, SuiteReport
from tta_tasks.protocols import CandidateTests
from workers.acceptance.bench import Bench, Trial
from workers.acceptance.reading import Draft, read
from workers.acceptance.selection import cover
from workers.acceptance.source import TestFunction
from workers.probe.config import Mutation
from workers.probing import Case, MutantRun, Surroundings

#: The component's own tests run beside the candidates unless they take longer than this, in seconds.
EXISTING_LIMIT_S = 30.0
#: Most statements of a module that is mutated, and most mutants of it.
MOST_STATEMENTS = 2000
MOST_MUTANTS = 300
#: How often a run is repeated without what took it down.
ATTEMPTS = 5

_Element = tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What is kept."""

    files: Mapping[str, str]
    accepted: tuple[AcceptedTest, ...]
    coverage: ModuleCoverage


class Judgement:
    """One judging of some candidates. Use once.

    Attributes:
        rejected: What was turned down so far.
        mutants: What mutation found.
    """

    def __init__(
        self, bench: Bench, baseline: SuiteReport, before: ModuleCoverage, seed: int, mutation_budget_s: float
    ) -> None:
        self.bench = bench
        self.before = before
        self.seed = seed
        self.mutation_budget_s = mutation_budget_s
        self.rejected: list[RejectedTest] = []
        self.mutants: tuple[MutantRun, ...] = ()
        self._drafts: dict[str, Draft] = {}
        self._cases: dict[str, Case] = {}
        self._out: set[str] = set()
        self._imported: frozenset[_Element] = frozenset()
        cheap = baseline.green and baseline.total and baseline.duration_s <= EXISTING_LIMIT_S
        self._beside = [bench.workspace.component.tests] if cheap else []
        self._existing_lines: dict[str, frozenset[int]] = {}
        self._existing_durations: dict[str, float] = {}

    def of(self, candidates: Sequence[CandidateTests]) -> Verdict:
        """Judge them."""
        drafts = read(self.bench.workspace, self.bench.module, candidates, self.rejected)
        self._drafts = {draft.path: draft for draft in drafts}
        self._run_alone()
        self._run_together()
        self._drop_rows_that_cannot_go_alone()
        reasons = self._choose()
        return self._write(reasons)

    # -- running ----------------------------------------------------------------------------------------------------

    def _run_alone(self) -> None:
        """Each test in a process of its own; finds failures, hangs, crashes and leaks, and what each test reaches."""
        trial = self._collected_trial()
        if trial is None:
            return
        probed = trial.probed
        self._cases = dict(probed.cases)
        self._imported = _elements(probed.imported.lines, probed.imported.branches)
        self._drop_unknown_functions()
        for case in self._alive():
            if case.outcome != "passed":
                self._drop(case, _CODES.get(case.outcome, "fails"), _last_line(case.message) or probed.aborted)
            elif case.left:
                self._drop(case, "leaks", "; ".join(case.left[:5]))
        if trial.changed and not any(reject.reason == "leaks" for reject in self.rejected):
            self._drop_everything("leaks", f"on import: file: {trial.changed[0]}")

    def _collected_trial(self) -> Trial | None:
        """A run of the files that can be collected; the others are dropped."""
        for _ in range(ATTEMPTS):
            if not self._drafts:
                return None
            trial = self.bench.alone(self._files())
            probed = trial.probed
            bad = {path: _last_line(message) for path, message in probed.collect_errors.items()}
            if probed.aborted and not probed.cases:
                bad = (
                    {probed.culprit: probed.aborted} if probed.culprit else dict.fromkeys(self._drafts, probed.aborted)
                )
            guilty = [draft for draft in self._drafts.values() if any(draft.path.endswith(name) for name in bad)]
            for draft in guilty:
                reason = next(reason for name, reason in bad.items() if draft.path.endswith(name))
                self._drop_file(draft, "fails", f"cannot be collected: {reason}")
            if not guilty:
                return trial
        self._drop_everything("fails", "its file cannot be collected")
        return None

    def _run_together(self) -> None:
        """All in one process: beside the component's own tests, and in random order under other circumstances."""
        first = self._stable_run(_ROUNDS[0], self._beside)
        if first is not None and self._beside:
            path = self.bench.module.path
            contexts = first.probed.coverage.get(path, {}).get("contexts", {})
            for line, tests in contexts.items():
                for test in set(tests) - set(self._cases):
                    self._existing_lines[test] = self._existing_lines.get(test, frozenset()) | {int(line)}
            self._existing_durations = {name: case.duration_s for name, case in first.probed.cases.items()}
            self._drop_what_disturbs(first)
        second = self._stable_run(_shuffled(_ROUNDS[1], self.seed + 1), [])
        if second is not None and second.changed:
            self._drop_everything("leaks", f"file: {second.changed[0]}")

    def _stable_run(self, around: Surroundings, beside: Sequence[str]) -> Trial | None:
        """Run together what is left; drop what does not pass, and run again if the process went down with it."""
        for _ in range(ATTEMPTS):
            if not list(self._alive()):
                return None
            trial = self.bench.together(self._files(), around, self._out, beside)
            for case in list(self._alive()):
                now = trial.probed.cases.get(case.id)
                outcome = now.outcome if now is not None else "unfinished"
                guilty = outcome != "passed" and (outcome != "unfinished" or trial.probed.culprit == case.id)
                if guilty:
                    why = _last_line(now.message) if now is not None else ""
                    self._drop(case, "flaky", f"passed alone, {outcome} {_described(around)} {why}".rstrip())
            if not trial.probed.aborted:
                return trial
        self._drop_everything("flaky", f"together: {trial.probed.aborted}")
        return None

    def _drop_what_disturbs(self, trial: Trial) -> None:
        """The component's own tests were green without the candidates; they must be green beside them, too."""
        own = [case for name, case in trial.probed.cases.items() if name not in self._cases]
        failing = [case.id for case in own if case.outcome in {"failed", "error"}]
        if not failing:
            return
        again = self.bench.together(self._files(), _ROUNDS[0], self._out, self._beside)
        still = [
            name for name in failing if name in again.probed.cases and again.probed.cases[name].outcome != "passed"
        ]
        if still:
            self._drop_everything("disturbs", f"{still[0]} fails beside it")

    # -- weighing ---------------------------------------------------------------------------------------------------

    def _choose(self) -> dict[str, str]:
        """Node id -> why it is kept; the rest is dropped."""
        reasons = dict.fromkeys(cover(self._gains(), self._cost), "coverage")
        spare = [case.id for case in self._alive() if case.id not in reasons]
        if spare and self.mutation_budget_s > 0 and self.before.statements <= MOST_STATEMENTS:
            self.bench.workspace.progress(f"looking for faults that only {len(spare)} tests would notice")
            reasons |= dict.fromkeys(self._mutant_hunters(list(reasons), spare), "mutant")
        for case in list(self._alive()):
            function = self._function(case)
            siblings = [other for other in self._alive() if self._function(other) is function]
            if case.id in reasons:
                continue
            keeper = next((other.id for other in siblings if other.id in reasons), "")
            if keeper and not function.rows(case.rows):
                reasons[case.id] = reasons[keeper]
            else:
                self._drop(case, "adds_nothing", "no line, branch or mutant beyond the tests that are kept")
        return reasons

    def _gains(self) -> dict[str, frozenset[_Element]]:
        missing = _elements(self.before.missing_lines, self.before.missing_branches)
        return {
            case.id: (_elements(case.reach.lines, case.reach.branches) | self._imported) & missing
            for case in self._alive()
        }

    def _cost(self, name: str, chosen: frozenset[str]) -> int:
        function = self._function(self._cases[name])
        shared = any(self._function(self._cases[other]) is function for other in chosen)
        return 1 if shared else function.lines

    def _mutant_hunters(self, chosen: list[str], spare: list[str]) -> tuple[str, ...]:
        """Those of ``spare`` that notice mutants which neither the component's own tests nor ``chosen`` notice."""
        candidates = {name: self._cases[name].reach.lines for name in (*chosen, *spare)}
        plan = Mutation(
            path=str(self.bench.module_file),
            module=self.bench.module.name,
            kept=[*self._existing_lines, *chosen],
            spare=spare,
            lines={name: sorted(lines) for name, lines in (self._existing_lines | candidates).items()},
            durations=self._existing_durations | {name: self._cases[name].duration_s for name in candidates},
            budget_s=self.mutation_budget_s,
            most=MOST_MUTANTS,
            seed=self.seed,
        )
        trial = self.bench.mutants(self._files(), self._out, self._beside, plan)
        self.mutants = trial.probed.mutants
        kills: defaultdict[str, set[_Element]] = defaultdict(set)
        for number, mutant in enumerate(self.mutants):
            for killer in mutant.killers:
                if killer in spare:
                    kills[killer].add((number,))
        return cover({name: frozenset(kills[name]) for name in spare if name in kills}, self._cost)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write(self, reasons: dict[str, str]) -> Verdict:
        """The files as they will be, run once more as such."""
        for _ in range(ATTEMPTS):
            kept = sorted(self._alive(), key=lambda case: (self.bench.path_of(case), case.position))
            files = self._pruned()
            if not files:
                break
            around = _shuffled(_ROUNDS[2], self.seed + 2)
            trial = self.bench.together(files, around, ())
            final = sorted(trial.probed.cases.values(), key=lambda case: (self.bench.path_of(case), case.position))
            pairs = list(zip(kept, final, strict=False))
            failing = [before for before, after in pairs if after.outcome != "passed"]
            if not failing and not trial.probed.aborted and len(kept) == len(final):
                figures = trial.probed.coverage[self.bench.module.path]
                accepted = tuple(self._accepted(after, reasons[before.id]) for before, after in pairs)
                return Verdict(files, accepted, _united(self.before, figures))
            if not failing:
                self._drop_everything("flaky", trial.probed.aborted or "other tests than before are in the final file")
            for case in failing:
                self._drop(case, "flaky", f"failed {_described(around)} once the others were gone")
            self._drop_rows_that_cannot_go_alone()
        return Verdict({}, (), self.before)

    def _accepted(self, case: Case, reason: str) -> AcceptedTest:
        criteria = self._drafts[self.bench.path_of(case)].candidate.criteria
        spoken = criteria.get(case.key) or criteria.get(case.function) or ()
        return AcceptedTest(name=case.name, reason=reason, criteria=tuple(spoken))

    def _pruned(self) -> dict[str, str]:
        sources = {path: draft.file.without(*self._to_remove(draft)) for path, draft in self._drafts.items()}
        return {path: source for path, source in sources.items() if source}

    def _to_remove(self, draft: Draft) -> tuple[set[str], dict[str, set[int]]]:
        """Functions, and rows of others, that are out."""
        by_function: defaultdict[str, list[Case]] = defaultdict(list)
        for case in self._cases.values():
            if self.bench.path_of(case) == draft.path:
                by_function[case.key].append(case)
        functions = {key for key in draft.file.functions if all(case.id in self._out for case in by_function[key])}
        rows = {
            key: {index for case in cases if case.id in self._out for index in case.rows.values()}
            for key, cases in by_function.items()
            if key not in functions
        }
        return functions, {key: indices for key, indices in rows.items() if indices}

    # -- dropping ---------------------------------------------------------------------------------------------------

    def _files(self) -> dict[str, str]:
        return {path: draft.file.source for path, draft in self._drafts.items()}

    def _alive(self) -> Iterator[Case]:
        return (case for case in self._cases.values() if case.id not in self._out)

    def _function(self, case: Case) -> TestFunction:
        return self._drafts[self.bench.path_of(case)].file.functions[case.key]

    def _drop(self, case: Case, reason: str, detail: str) -> None:
        self._out.add(case.id)
        self.rejected.append(RejectedTest(name=case.name, reason=reason, detail=detail))

    def _drop_everything(self, reason: str, detail: str) -> None:
        for draft in list(self._drafts.values()):
            self._drop_file(draft, reason, detail)

    def _drop_file(self, draft: Draft, reason: str, detail: str) -> None:
        self.rejected.append(RejectedTest(name=draft.path, reason=reason, detail=detail))
        del self._drafts[draft.path]
        self._cases = {name: case for name, case in self._cases.items() if self.bench.path_of(case) != draft.path}

    def _drop_unknown_functions(self) -> None:
        """A file whose tests are not those that its text shows cannot be judged test by test."""
        for draft in list(self._drafts.values()):
            found = {case.key for case in self._cases.values() if self.bench.path_of(case) == draft.path}
            if found - set(draft.file.functions):
                self._drop_file(draft, "unreadable", "makes its tests in a way that cannot be taken apart")
            for key in set(draft.file.functions) - found:
                self.rejected.append(RejectedTest(name=key, reason="not_collected", detail="pytest does not find it"))

    def _drop_rows_that_cannot_go_alone(self) -> None:
        """Where a row is bad and rows cannot be taken out of the source one by one, the whole function goes."""
        bad = [case for case in self._cases.values() if case.id in self._out]
        hopeless = {id(self._function(case)) for case in bad if case.rows and not self._function(case).rows(case.rows)}
        for case in list(self._alive()):
            if id(self._function(case)) in hopeless:
                self._drop(case, "fails", "another row does not hold, and single rows cannot be taken out")


_CODES = {"failed": "fails", "error": "fails", "skipped": "skipped", "hangs": "hangs", "crashes": "crashes"}
#: Circumstances of the runs in one process. POSIX time zones: no database of them is needed.
_ROUNDS = (Surroundings("1", "JST-9"), Surroundings("2", "EST5EDT"), Surroundings("3", "NST3:30"))


def _shuffled(around: Surroundings, seed: int) -> Surroundings:
    return Surroundings(around.hash_seed, around.timezone, seed)


def _described(around: Surroundings) -> str:
    order = "together" if around.seed is None else f"in random order {around.seed}"
    return f"{order}, hash seed {around.hash_seed}, time zone {around.timezone}:"


def _elements(lines: Collection[int], branches: Collection[tuple[int, int]]) -> frozenset[_Element]:
    return frozenset((line,) for line in lines) | frozenset(branches)


def _same_file(path: str, node_id: str) -> bool:
    """Node ids are relative to pytest's root, which may be above or below the project."""
    return f"/{path}".endswith(f"/{node_id}") or f"/{node_id}".endswith(f"/{path}")


def _last_line(message: str) -> str:
    lines = [line.removeprefix("E").strip() for line in message.splitlines() if line.startswith("E  ")]
    return (lines or message.strip().splitlines() or [""])[0][:300]


def _united(before: ModuleCoverage, figures: Mapping[str, Any]) -> ModuleCoverage:
    """``before`` with what another run covered as well."""
    lines = set(before.missing_lines) & set(figures["missing_lines"])
    also_missing: set[tuple[int, int]] = {tuple(branch) for branch in figures["missing_branches"]}
    branches = [branch for branch in before.missing_branches if branch in also_missing]
    return before.model_copy(
        update={
            "missing_lines": tuple(sorted(lines)),
            "missing_branches": tuple(branches),
            "covered_statements": before.statements - len(lines),
            "covered_branches": before.branches - len(branches),
        }
    )
