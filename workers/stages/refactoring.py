"""Refactors a component's source; what changes behaviour is taken back."""

from __future__ import annotations

from tta_tasks import plugins, tracing
from tta_tasks.errors import Cancelled, EngineFailed, ModelUnavailable, TtaError, UnknownEngine
from tta_tasks.models import RefactoringRequest, RefactoringResult, Status, SuiteReport, TestingResult
from tta_tasks.protocols import Refactorer, RefactoringOutcome, Workspace
from workers.component.copies import fresh_copy
from workers.stages.context import Context
from workers.stages.verification import Verification

#: What ``auto`` stands for: the first that can work here.
ORDER = ("openhands", "embedded")
#: Does the work when no model can be used, even where agents were insisted on.
FALLBACK = "embedded"


def run(request: RefactoringRequest, context: Context) -> RefactoringResult:
    """Refactor; the patch changes source files only.

    Raises:
        UnknownEngine: The engine is not installed, or cannot work here.
        EngineFailed: It gave up, or what it left behind does not hold.
    """
    engine = _engine(request.engine)
    with context.workspace(request) as before, fresh_copy(before) as work:
        verify = Verification(before, work, _baseline(request, context))
        engine, outcome, notes = _refactored(engine, work, verify, insisted=request.engine != "auto")
        if context.cancelled():  # what was cut short must not pass for a verdict
            raise Cancelled("The run was cancelled.")
        if reason := verify():
            raise EngineFailed(f"The refactoring by {engine.name!r} was not kept: it {reason}.")
        patch = verify.patch()
        return RefactoringResult(
            status=Status.COMPLETED,
            engine=f"{engine.name} {engine.version}",
            steps=outcome.steps,
            patch=context.store.put(patch) if patch else None,
            usage=context.usage,
            notes=notes,
        )


def _engine(name: str) -> Refactorer:
    reason = ""
    for wanted in ORDER if name == "auto" else (name,):
        engine: Refactorer = plugins.load(plugins.REFACTORERS, wanted)()
        if not (reason := engine.available()):
            return engine
    raise UnknownEngine(f"The refactorer {wanted!r} cannot work on this host: {reason}.")


@tracing.step("refactoring")
def _refactored(
    engine: Refactorer, work: Workspace, verify: Verification, *, insisted: bool
) -> tuple[Refactorer, RefactoringOutcome, tuple[str, ...]]:
    """What ``engine`` did, or the fallback in its place; and what to say of that."""
    forgiven: tuple[type[TtaError], ...] = (ModelUnavailable,) if insisted else (ModelUnavailable, EngineFailed)
    try:
        return engine, engine.refactor(work, verify), ()
    except forgiven as error:
        if engine.name == FALLBACK:
            raise
        instead: Refactorer = plugins.load(plugins.REFACTORERS, FALLBACK)()
        return instead, instead.refactor(work, verify), (error.message,)


def _baseline(request: RefactoringRequest, context: Context) -> SuiteReport | None:
    return next((r.suite for r in context.results(request.needs) if isinstance(r, TestingResult)), None)
