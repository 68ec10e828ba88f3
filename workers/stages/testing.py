"""Runs the component's own tests: the baseline that everything later is held against."""

from __future__ import annotations

from tta_tasks.errors import Cancelled
from tta_tasks.models import ErrorInfo, Status, SuiteReport, TestingRequest, TestingResult
from tta_tasks.protocols import Workspace
from workers.component.suite import run_suite
from workers.stages.context import Context


def run(request: TestingRequest, context: Context) -> TestingResult:
    """Run the suite with coverage; tests that fail make the result a failed one, with the failures in it.

    Raises:
        Cancelled: The run was cancelled.
    """
    with context.workspace(request) as workspace:
        context.progress("running the tests")
        suite = run_suite(workspace)
        if context.cancelled():  # what was cut short must not pass for a failure of the tests
            raise Cancelled("The run was cancelled.")
        return TestingResult(
            status=Status.COMPLETED if suite.green else Status.FAILED,
            error=None if suite.green else _error(suite),
            suite=suite,
            python=_python_version(workspace),
            sandbox=workspace.sandbox.level,
        )


def _error(suite: SuiteReport) -> ErrorInfo:
    if suite.aborted:
        return ErrorInfo(
            type="TestsAborted",
            message=f"The component's tests did not come to their end: {suite.aborted}.",
            hint="Run them on their own, mend or deselect what stops them, and try again.",
        )
    bad = suite.failed + suite.errors
    first = suite.failures[0]
    return ErrorInfo(
        type="TestsFailed",
        message=f"{bad} of {suite.total} tests of the component {'fails' if bad == 1 else 'fail'}; first {first.id}: "
        f"{_reason(first.message)}",
        hint="Nothing is built on tests that fail: mend or deselect them, and try again.",
    )


def _reason(message: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = [line for line in message.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("E  ")]
    return (marked or lines or ["no reason given"])[0].removeprefix("E").strip()[:300]


def _python_version(workspace: Workspace) -> str:
    return workspace.run_python("-I", "-c", "import platform; print(platform.python_version())").stdout.strip()
