"""Puts what the other tasks made on one tree, verifies it, and keeps what holds."""

from __future__ import annotations

import shutil

from tta_tasks import snapshot
from tta_tasks.errors import TtaError
from tta_tasks.models import (
    CollectionRequest,
    CollectionResult,
    ErrorInfo,
    GateOutcome,
    GenerationResult,
    RefactoringResult,
    Result,
    Status,
    SuiteReport,
    TestingResult,
    total_percent,
)
from workers import gates
from workers.combination import Choice, Combination, settle
from workers.context import Context
from workers.suite import run_suite

#: Least-covered modules named in a hint.
MAX_NAMED = 3
REMEDIES = {
    "pass_rate": "mend the failing tests",
    "lint": "look at the findings in the report",
    "types": "look at the type errors in the report",
    "security": "look at the security findings in the report",
}


def run(request: CollectionRequest, context: Context) -> CollectionResult:
    """Combine and verify; a tree that does not pass its gates is stored all the same, to be looked at."""
    results = context.results(request.needs)
    before = next((result.suite for result in results if isinstance(result, TestingResult)), None)
    with context.workspace(request) as pristine:
        combination = Combination(pristine)
        _contribute(combination, results, context)
        choice, suite, dropped = settle(_Trials(combination, context), combination.everything)
        context.progress("holding the tree against its gates")
        tree = combination.assemble(choice)
        packed = snapshot.pack(
            tree.root, max_bytes=context.settings.max_snapshot_bytes, max_files=context.settings.max_snapshot_files
        )
        verdicts = gates.judge(tree, pristine, suite, request.gates, [t for t in choice.tests if t.endswith(".py")])
        error = _error(verdicts, suite, request)
        return CollectionResult(
            status=Status.FAILED if error else Status.COMPLETED,
            error=error,
            tree=context.store.put(packed.data),
            tests_patch=_stored(combination.tests_patch(choice), context),
            refactoring_patch=_stored(combination.refactoring_patch(choice), context),
            dropped=(*combination.refused, *dropped),
            gates=verdicts,
            suite=suite,
            coverage_before=total_percent(before.coverage) if before and before.coverage else None,
            coverage_after=total_percent(suite.coverage) if suite.coverage else None,
        )


def _contribute(combination: Combination, results: tuple[Result, ...], context: Context) -> None:
    """Take what there is; a generation or refactoring that failed left nothing."""
    for result in results:
        if isinstance(result, GenerationResult) and result.patch:
            module = f"tests of {result.module.name}" if result.module else "tests"
            combination.add_tests(module, context.store.get(result.patch))
        elif isinstance(result, RefactoringResult) and result.patch:
            combination.add_refactoring(context.store.get(result.patch))


class _Trials:
    """Runs the suite on a tree with a choice of contributions, once for each choice."""

    def __init__(self, combination: Combination, context: Context) -> None:
        self._combination = combination
        self._context = context
        self._known: dict[Choice, SuiteReport] = {}

    def __call__(self, choice: Choice) -> SuiteReport:
        if choice not in self._known:
            count = len(choice.tests)
            self._context.progress(f"running the suite with {count} new file{'s' * (count != 1)}")
            work = self._combination.assemble(choice)
            self._known[choice] = run_suite(work)
            shutil.rmtree(work.root.parent, ignore_errors=True)
            if self._context.cancelled():  # what was cut short must not pass for a verdict
                raise TtaError("The run was cancelled.")
        return self._known[choice]


def _stored(patch: bytes, context: Context) -> str | None:
    return context.store.put(patch) if patch else None


def _error(verdicts: tuple[GateOutcome, ...], suite: SuiteReport, request: CollectionRequest) -> ErrorInfo | None:
    """What stops the tree, and what to do."""
    failed = {verdict.name: verdict.detail for verdict in verdicts if verdict.outcome == "failed"}
    if not failed:
        return None
    said = "; ".join(f"{name} {detail}" for name, detail in failed.items())
    remedies = [_cover(suite) if name == "coverage" else REMEDIES[name] for name in failed]
    return ErrorInfo(
        type="GatesFailed",
        message=f"The tree does not pass the gates of {request.target.value}: {said}.",
        hint=f"Do one of these: {'; '.join(remedies)}; or ask for less in [tool.tta.gates] of pyproject.toml.",
    )


def _cover(suite: SuiteReport) -> str:
    weakest = sorted(suite.coverage, key=lambda module: module.percent)[:MAX_NAMED]
    named = ", ".join(f"{module.path} ({module.percent:.0f} %)" for module in weakest if module.percent < 100)  # noqa: PLR2004 - percent
    return "give generation more time, or write tests" + (f" for {named}" if named else "")
