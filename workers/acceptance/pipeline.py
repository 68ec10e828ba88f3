"""The way of candidates from their text to the files that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_tasks.models import AcceptedTest, ModuleCoverage, RejectedTest, SuiteReport
from tta_tasks.protocols import CandidateTests
from workers.acceptance.candidates import Pool
from workers.acceptance.reading import read
from workers.acceptance.runner import Bench
from workers.acceptance.trials import ATTEMPTS, ROUNDS, Trials, described, shuffled
from workers.acceptance.weighing import Scales, Weights
from workers.component.probing import Case, MutantRun

#: The component's own tests run beside the candidates unless they take longer than this, in seconds.
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
    bench: Bench,
    candidates: Sequence[CandidateTests],
    *,
    baseline: SuiteReport,
    before: ModuleCoverage,
    seed: int,
    mutation_budget_s: float,
) -> Verdict:
    """Read, run and weigh ``candidates``, and run what remains once more as it will be written."""
    rejected: list[RejectedTest] = []
    drafts = read(bench.workspace, bench.module, candidates, rejected)
    pool = Pool({draft.path: draft for draft in drafts}, bench.path_of, rejected)
    cheap = baseline.green and baseline.total and baseline.duration_s <= EXISTING_LIMIT_S
    beside = [bench.workspace.component.tests] if cheap else []
    trials = Trials(pool, bench, beside)
    imported = trials.alone()
    existing = trials.together(seed + 1)
    pool.drop_inseparable()
    scales = Scales(pool, bench, beside, Weights(before, imported, existing, mutation_budget_s, seed))
    reasons = scales.choose()
    files, accepted, coverage = _written(pool, bench, reasons, before, seed + 2)
    return Verdict(files, accepted, tuple(rejected), coverage, scales.mutants)


def _written(
    pool: Pool, bench: Bench, reasons: Mapping[str, str], before: ModuleCoverage, seed: int
) -> tuple[Mapping[str, str], tuple[AcceptedTest, ...], ModuleCoverage]:
    """The final files, seen to pass as such; what does not is turned down."""
    around = shuffled(ROUNDS[2], seed)
    for _ in range(ATTEMPTS):
        files = pool.pruned()
        if not files:
            break
        kept = pool.in_order(pool.alive())
        probed = bench.together(files, around, ()).probed
        final = pool.in_order(probed.cases.values())
        # Ids may have changed with the rows before them; places have not.
        pairs = list(zip(kept, final, strict=False))
        failing = [was for was, now in pairs if now.outcome != "passed"]
        if not failing and (probed.aborted or len(kept) != len(final)):
            pool.drop_everything(
                "flaky", f"as written, {described(around)} {probed.aborted or 'other tests than before'}"
            )
        elif not failing:
            accepted = tuple(_accepted(pool, now, reasons[was.id]) for was, now in pairs)
            return files, accepted, _united(before, probed.coverage[bench.module.path])
        for case in failing:
            pool.drop(case, "flaky", f"failed as written, {described(around)}".rstrip(":"))
        pool.drop_inseparable()
    return {}, (), before


def _accepted(pool: Pool, case: Case, reason: str) -> AcceptedTest:
    criteria = pool.drafts[pool.path_of(case)].candidate.criteria
    return AcceptedTest(
        name=case.name, reason=reason, criteria=tuple(criteria.get(case.key) or criteria.get(case.function) or ())
    )


def _united(before: ModuleCoverage, figures: Mapping[str, Any]) -> ModuleCoverage:
    """``before`` with what another run covered as well."""
    still_missing: set[tuple[int, int]] = {tuple(branch) for branch in figures["missing_branches"]}
    lines = tuple(sorted(set(before.missing_lines) & set(figures["missing_lines"])))
    branches = tuple(branch for branch in before.missing_branches if branch in still_missing)
    return before.model_copy(
        update={
            "missing_lines": lines,
            "missing_branches": branches,
            "covered_statements": before.statements - len(lines),
            "covered_branches": before.branches - len(branches),
        }
    )
