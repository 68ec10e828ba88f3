"""The way of proposed from their text to the files that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tta_tasks.models import AcceptedTest, ModuleCoverage, RejectedTest, SuiteReport
from tta_tasks.protocols import CandidateTests
from workers.acceptance.candidates import Candidates
from workers.acceptance.reading import read
from workers.acceptance.runner import TestRunner
from workers.acceptance.selector import SelectionInputs, TestSelector
from workers.acceptance.trials import ATTEMPTS, ROUNDS, Trials, describe, shuffled
from workers.component.probing import CollectedTest, ModuleFigures, MutantRun, ProbeResult

#: The component's own tests run with the candidates unless they take longer than this, in seconds.
EXISTING_LIMIT_S = 30.0


@dataclass(frozen=True)
class Verdict:
    """What is kept, and what is not."""

    files: Mapping[str, str]
    accepted: tuple[AcceptedTest, ...]
    rejected: tuple[RejectedTest, ...]
    coverage: ModuleCoverage
    mutants: tuple[MutantRun, ...]


def judge(
    runner: TestRunner,
    proposed: Sequence[CandidateTests],
    *,
    baseline: SuiteReport,
    before: ModuleCoverage,
    seed: int,
    mutation_budget_s: float,
) -> Verdict:
    """Read, run and select from ``proposed``, and run what remains once more as it will be written."""
    rejected: list[RejectedTest] = []
    drafts = read(runner.workspace, runner.guard.pristine, runner.module, proposed, rejected)
    candidates = Candidates({draft.path: draft for draft in drafts}, runner.path_of, rejected)
    cheap = baseline.green and baseline.total and baseline.duration_s <= EXISTING_LIMIT_S
    suite_paths = [runner.workspace.component.tests] if cheap else []
    trials = Trials(candidates, runner, suite_paths)
    imported = trials.alone()
    existing = trials.together(seed + 1)
    candidates.reject_inseparable()
    inputs = SelectionInputs(before, imported, existing, mutation_budget_s, seed)
    selector = TestSelector(candidates, runner, suite_paths, inputs)
    reasons = selector.select()
    files, accepted, coverage = _written(candidates, runner, reasons, before, seed + 2)
    return Verdict(files, accepted, tuple(rejected), coverage, selector.mutants)


def _written(
    candidates: Candidates, runner: TestRunner, reasons: Mapping[str, str], before: ModuleCoverage, seed: int
) -> tuple[Mapping[str, str], tuple[AcceptedTest, ...], ModuleCoverage]:
    """The final files, seen to pass as such; what does not is turned down."""
    conditions = shuffled(ROUNDS[2], seed)
    for _ in range(ATTEMPTS):
        files = candidates.pruned()
        if not files:
            break
        kept = candidates.in_order(candidates.remaining())
        probed = runner.together(files, conditions, (), counted=True).probed
        if _reject_disputed(candidates, probed, runner.module.path):
            continue
        final = candidates.in_order(probed.cases.values())
        # Ids may have changed with the rows before them; places have not.
        pairs = list(zip(kept, final, strict=False))
        failing = [was for was, now in pairs if now.outcome != "passed"]
        if not failing and (probed.aborted or len(kept) != len(final)):
            candidates.reject_all(
                "flaky", f"as written, {describe(conditions)} {probed.aborted or 'other tests than before'}"
            )
        elif not failing:
            accepted = tuple(_accepted(candidates, now, reasons[was.id]) for was, now in pairs)
            return files, accepted, _united(before, probed.coverage[runner.module.path])
        for case in failing:
            candidates.reject(case, "flaky", f"failed as written, {describe(conditions)}".rstrip(":"))
        candidates.reject_inseparable()
    return {}, (), before


def _reject_disputed(candidates: Candidates, probed: ProbeResult, module: str) -> bool:
    """Turn down the files that claim to cover what the second count has not seen; answers whether there are any."""
    figures = probed.coverage.get(module)
    if figures is None or not figures.disputed:
        return False
    disputed = set(figures.disputed)
    claims = {test for test, lines in probed.contexts.get(module, {}).items() if lines & disputed}
    liars = {candidates.path_of(case) for case in probed.cases.values() if case.id in claims}
    lines = ", ".join(map(str, figures.disputed[:10]))
    for draft in [draft for path, draft in candidates.drafts.items() if path in liars or not liars]:
        candidates.reject_file(draft, "disputed", f"coverage calls lines executed that were not: {lines}")
    return True


def _accepted(candidates: Candidates, case: CollectedTest, reason: str) -> AcceptedTest:
    criteria = candidates.drafts[candidates.path_of(case)].candidate.criteria
    return AcceptedTest(
        name=case.name, reason=reason, criteria=tuple(criteria.get(case.key) or criteria.get(case.function) or ())
    )


def _united(before: ModuleCoverage, figures: ModuleFigures) -> ModuleCoverage:
    """``before`` with what another run covered as well."""
    still_missing: set[tuple[int, int]] = set(figures.missing_branches)
    lines = tuple(sorted(set(before.missing_lines) & set(figures.missing)))
    branches = tuple(branch for branch in before.missing_branches if branch in still_missing)
    return before.model_copy(
        update={
            "missing_lines": lines,
            "missing_branches": branches,
            "covered_statements": before.statements - len(lines),
            "covered_branches": before.branches - len(branches),
        }
    )
