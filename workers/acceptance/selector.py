"""Selects, of the tests that hold, those worth keeping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from tta_tasks.models import ModuleCoverage
from workers.acceptance.candidates import Candidates
from workers.acceptance.runner import TestRunner
from workers.acceptance.set_cover import cover
from workers.acceptance.trials import SuiteProfile
from workers.component.probing import ExecutedCode, MutantRun
from workers.probe.config import Mutation

#: Most statements of a module that is mutated, and most mutants of it: few enough for the time limit not to decide.
MOST_STATEMENTS = 2000
MOST_MUTANTS = 100

#: A line, a branch, or a mutant's number.
_Goal = tuple[int, ...]


@dataclass(frozen=True)
class SelectionInputs:
    """What the selection is based on."""

    #: The module's coverage by the component's own tests.
    before: ModuleCoverage
    #: What importing the candidates alone executes of it.
    imported: ExecutedCode
    existing: SuiteProfile
    #: Wall time for mutation, in seconds; 0 leaves it out.
    mutation_budget_s: float
    seed: int


class TestSelector:
    """Selects the tests worth keeping."""

    def __init__(
        self, candidates: Candidates, runner: TestRunner, suite_paths: Collection[str], inputs: SelectionInputs
    ) -> None:
        self.candidates = candidates
        self.runner = runner
        self.suite_paths = suite_paths
        self.inputs = inputs
        self.mutants: tuple[MutantRun, ...] = ()

    def select(self) -> dict[str, str]:
        """Node id -> why it is kept, ``coverage`` or ``mutant``; the others are turned down."""
        reasons = dict.fromkeys(cover(self._gains(), self._cost), "coverage")
        spare = [case.id for case in self.candidates.remaining() if case.id not in reasons]
        inputs = self.inputs
        if spare and inputs.mutation_budget_s > 0 and inputs.before.statements <= MOST_STATEMENTS:
            self.runner.workspace.progress(f"looking for faults that only {len(spare)} more tests would notice")
            reasons |= dict.fromkeys(self._mutant_killers(list(reasons), spare), "mutant")
        self._reject_the_rest(reasons)
        return reasons

    def _reject_the_rest(self, reasons: dict[str, str]) -> None:
        """Turn down what is not kept; rows that cannot be taken out stay with those of their function that are."""
        kept = [(self.candidates.function(self.candidates.cases[name]), reason) for name, reason in reasons.items()]
        for case in self.candidates.remaining():
            if case.id in reasons:
                continue
            function = self.candidates.function(case)
            reason = next((why for other, why in kept if other is function), None)
            if reason and not function.rows(case.rows):
                reasons[case.id] = reason
            else:
                self.candidates.reject(case, "adds_nothing", "no line, branch or mutant beyond the tests that are kept")

    def _gains(self) -> dict[str, frozenset[_Goal]]:
        before, imported = self.inputs.before, self.inputs.imported
        missing = _goals(before.missing_lines, before.missing_branches)
        by_import = _goals(imported.lines, imported.branches)
        return {
            case.id: (_goals(case.executed.lines, case.executed.branches) | by_import) & missing
            for case in self.candidates.remaining()
        }

    def _cost(self, name: str, chosen: frozenset[str]) -> int:
        """Lines that a test makes the file longer by; a further row of a function that is kept is one."""
        function = self.candidates.function(self.candidates.cases[name])
        shared = any(self.candidates.function(self.candidates.cases[other]) is function for other in chosen)
        return 1 if shared else function.lines

    def _mutant_killers(self, chosen: list[str], spare: list[str]) -> tuple[str, ...]:
        """Those of ``spare`` that notice mutants which neither the component's own tests nor ``chosen`` notice."""
        plan = self._plan(chosen, spare)
        self.mutants = self.runner.mutants(self.candidates.files, self.candidates.rejected_ids, self.suite_paths, plan)
        kills: defaultdict[str, set[_Goal]] = defaultdict(set)
        for number, mutant in enumerate(self.mutants):
            for killer in set(mutant.killers) & set(spare):
                kills[killer].add((number,))
        return cover({name: frozenset(kills[name]) for name in spare if name in kills}, self._cost)

    def _plan(self, chosen: list[str], spare: list[str]) -> Mutation:
        existing = self.inputs.existing
        considered = {name: self.candidates.cases[name] for name in (*chosen, *spare)}
        return Mutation(
            path=str(self.runner.module_file),
            kept=[*existing.lines, *chosen],
            spare=spare,
            lines={name: sorted(lines) for name, lines in existing.lines.items()}
            | {name: sorted(case.executed.lines) for name, case in considered.items()},
            durations=existing.durations | {name: case.duration_s for name, case in considered.items()},
            budget_s=self.inputs.mutation_budget_s,
            most=MOST_MUTANTS,
            seed=self.inputs.seed,
        )


def _goals(lines: Collection[int], branches: Collection[tuple[int, int]]) -> frozenset[_Goal]:
    return frozenset((line,) for line in lines) | frozenset(branches)
