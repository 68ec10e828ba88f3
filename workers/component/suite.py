"""A component's own tests, run in its own environment, with coverage.

The repository's pytest configuration is honoured, less what disturbs the measurement (``--cov``, ``-n``, random order,
reruns, ``-x``). Coverage is ours: lines and branches of the component's modules, whatever the tests are configured for;
the repository's exclusions and omissions hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tta_tasks import tracing
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, ModuleCoverage, SuiteReport, TestFailure
from tta_tasks.protocols import Limits, Workspace
from workers.component.probing import (
    DEFAULT_CONDITIONS,
    CollectedTest,
    ModuleFigures,
    ProbeResult,
    RunConditions,
    run_probe,
)
from workers.probe.config import ProbeConfig

#: Failures that are told; the rest is counted.
MOST_FAILURES = 50


@dataclass(frozen=True)
class SuiteRun:
    """A run of the suite with everything that is known of it."""

    report: SuiteReport
    cases: Mapping[str, CollectedTest]
    #: Module's path -> node id -> lines executed; only with contexts.
    contexts: Mapping[str, Mapping[str, frozenset[int]]]


@tracing.step("suite")
def run_suite(
    workspace: Workspace,
    *,
    paths: Sequence[str] | None = None,
    coverage: bool = True,
    counted: bool = False,
    seed: int | None = None,
    hash_seed: str = "0",
    timezone: str = "UTC",
    limits: Limits | None = None,
    deselect: Sequence[str] = (),
) -> SuiteReport:
    """Run the component's tests to their end, whatever they do.

    Args:
        workspace: Where.
        paths: Files, folders or node ids relative to the project; ``None``: the component's tests. Where
            their folder does not exist there are none, which is green.
        coverage: Whether to measure the component's modules.
        counted: Whether what is measured is decided on: then lines count as covered only if a second count has seen
            them, too. Tests that fail only because of that count do not count as failed.
        seed: Shuffles the tests; ``None`` keeps their order.
        hash_seed: ``PYTHONHASHSEED``.
        timezone: ``TZ``.
        limits: Bounds of the whole run; without, those of the workspace.
        deselect: Node ids to leave out.

    Raises:
        SandboxError: The interpreter cannot be started.
    """
    conditions = RunConditions(hash_seed, timezone, seed)
    run = observe_suite(
        workspace,
        paths=paths,
        coverage=coverage,
        counted=counted,
        conditions=conditions,
        limits=limits,
        deselect=deselect,
    )
    if not counted or run.report.green:
        return run.report
    plain = observe_suite(workspace, paths=paths, conditions=conditions, limits=limits, deselect=deselect).report
    return plain.model_copy(update={"coverage": run.report.coverage}) if plain.green else plain


def observe_suite(
    workspace: Workspace,
    *,
    paths: Sequence[str] | None = None,
    coverage: bool = True,
    counted: bool = False,
    contexts: bool = False,
    conditions: RunConditions = DEFAULT_CONDITIONS,
    limits: Limits | None = None,
    deselect: Sequence[str] = (),
) -> SuiteRun:
    """As :func:`run_suite`, with the single tests and, on demand, what each executed."""
    config = ProbeConfig(
        mode="suite",
        args=_arguments(workspace, paths),
        deselect=list(deselect),
        measure=module_files(workspace) if coverage else {},
        counted=coverage and counted,
        contexts=contexts,
        seed=conditions.seed,
    )
    probed = run_probe(workspace, config, conditions, limits)
    return SuiteRun(_report(workspace.component, probed), probed.cases, probed.contexts)


def module_files(workspace: Workspace) -> dict[str, str]:
    """The component's modules: path relative to the project -> absolute path."""
    return {module.path: str(workspace.project / module.path) for module in workspace.component.modules}


def _arguments(workspace: Workspace, paths: Sequence[str] | None) -> list[str]:
    if paths is None:
        paths = [workspace.component.tests] if ForeignTree(workspace.root).exists(workspace.tests) else []
    return list(paths)


def _report(component: Component, probed: ProbeResult) -> SuiteReport:
    outcomes = [case.outcome for case in probed.cases.values()]
    return SuiteReport(
        passed=outcomes.count("passed"),
        failed=outcomes.count("failed"),
        errors=outcomes.count("error") + len(probed.collect_errors),
        skipped=outcomes.count("skipped"),
        failures=tuple(_failures(probed))[:MOST_FAILURES],
        coverage=tuple(_coverage(component, probed.coverage)),
        duration_s=probed.duration_s,
        aborted=probed.aborted,
    )


def _failures(probed: ProbeResult) -> Iterable[TestFailure]:
    for file, message in probed.collect_errors.items():
        yield TestFailure(id=file, message=message)
    for case in probed.cases.values():
        if case.outcome in {"failed", "error"}:
            yield TestFailure(id=case.id, message=case.message)


def _coverage(component: Component, figures: Mapping[str, ModuleFigures]) -> Iterable[ModuleCoverage]:
    return (module_coverage(module.path, figures[module.path]) for module in component.modules if figures)


def module_coverage(path: str, figures: ModuleFigures) -> ModuleCoverage:
    """The probe's figures as a model; a module that does not parse is wholly uncovered."""
    return ModuleCoverage(
        path=path,
        statements=figures.broken or len(figures.covered) + len(figures.missing),
        covered_statements=len(figures.covered),
        branches=figures.branches,
        covered_branches=figures.branches - len(figures.missing_branches),
        missing_lines=figures.missing,
        missing_branches=figures.missing_branches,
        disputed_lines=figures.disputed,
    )
