"""Acceptance: judges every generated test the same way, whoever wrote it, and keeps what earns its place.

A test is read (:mod:`~workers.acceptance.static`), run alone in a process of its own, run together with all others and
the component's own under other orders, hash seeds and time zones, and selected: it stays if it raises coverage, or
notices a fault that nothing else notices. What remains is cut to the fewest tests and run once more as it will be
written. All this happens in a copy of the workspace, and what is decided by looking is decided in the workspace itself,
where nothing foreign runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tta_tasks import tracing
from tta_tasks.models import AcceptedTest, Module, ModuleCoverage, RejectedTest, SuiteReport
from tta_tasks.protocols import CandidateTests, Workspace
from workers.acceptance.pipeline import judge
from workers.acceptance.runner import TestRunner
from workers.acceptance.tree_guard import TreeGuard
from workers.component.copies import fresh_copy

__all__ = ["AcceptanceResult", "accept"]

#: Most seconds spent on looking for mutants that only some tests notice.
MUTATION_BUDGET_S = 20.0


@dataclass(frozen=True)
class AcceptanceResult:
    """What became of the candidates."""

    #: Path relative to the project -> final source of each file that is kept.
    files: Mapping[str, str]
    accepted: tuple[AcceptedTest, ...]
    rejected: tuple[RejectedTest, ...]
    coverage_before: ModuleCoverage
    #: With the accepted tests, and those that were there before.
    coverage_after: ModuleCoverage
    #: Mutants that tests were run against, and how many of them were noticed.
    mutants_tried: int = 0
    mutants_killed: int = 0


@tracing.step("acceptance")
def accept(
    workspace: Workspace,
    module: Module,
    candidates: Sequence[CandidateTests],
    *,
    baseline: SuiteReport,
    seed: int = 0,
    mutation_budget_s: float = MUTATION_BUDGET_S,
) -> AcceptanceResult:
    """Judge ``candidates`` for ``module``; those of several engines are united and cut down together.

    Args:
        workspace: A tree where nothing foreign has run; without the candidates. Left as it is.
        module: What they are to test.
        candidates: New files in the component's tests folder; on a repeated path the first one counts.
        baseline: The component's own suite, with coverage.
        seed: Of random orders and of the sample of mutants.
        mutation_budget_s: Wall time for mutation; 0 leaves it out.

    Raises:
        ValueError: ``baseline`` has no coverage of ``module``.
        SandboxError: The component's interpreter cannot be started.
        OSError: The tree cannot be copied, or the copy not be put back.
    """
    before = next((coverage for coverage in baseline.coverage if coverage.path == module.path), None)
    if before is None:
        raise ValueError(f"the baseline has no coverage of {module.path}")
    with fresh_copy(workspace) as work:
        verdict = judge(
            TestRunner(work, module, TreeGuard(work.root, workspace.root)),
            candidates,
            baseline=baseline,
            before=before,
            seed=seed,
            mutation_budget_s=mutation_budget_s,
        )
    return AcceptanceResult(
        files=verdict.files,
        accepted=verdict.accepted,
        rejected=verdict.rejected,
        coverage_before=before,
        coverage_after=verdict.coverage,
        mutants_tried=len(verdict.mutants),
        mutants_killed=sum(bool(mutant.killers) for mutant in verdict.mutants),
    )
