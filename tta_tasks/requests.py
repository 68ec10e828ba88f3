"""From a request to the ledger's entry for it, and to the result that says it was not carried out."""

from __future__ import annotations

import time
from typing import Final

from tta_tasks.errors import TransientError, TtaError
from tta_tasks.models import (
    AnyRequest,
    CollectionResult,
    DeploymentRequest,
    DeploymentResult,
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    Priority,
    RefactoringResult,
    Result,
    Stage,
    Status,
    TaskRecord,
    TestingResult,
)
from tta_tasks.queues import ROUTES

#: Kind of request -> name of the declared task that carries it out.
TASKS: Final[dict[str, str]] = {
    "testing": "tta_tasks.run_tests",
    "generation": "tta_tasks.generate_tests",
    "refactoring": "tta_tasks.refactor",
    "collection": "tta_tasks.collect",
    "deployment": "tta_tasks.deploy",
}
#: Kind of request -> what its result is.
RESULTS: Final[dict[str, type[Result]]] = {
    "testing": TestingResult,
    "generation": GenerationResult,
    "refactoring": RefactoringResult,
    "collection": CollectionResult,
    "deployment": DeploymentResult,
}


def record_of(
    request: AnyRequest,
    task_id: str,
    priority: Priority = Priority.NORMAL,
    deadline: float | None = None,
    submitted_at: float | None = None,
) -> TaskRecord:
    """The ledger's first entry for ``request``.

    Args:
        request: What is wanted.
        task_id: Its task's id.
        priority: How urgent it is.
        deadline: Epoch seconds; not done by then, it ends as failed.
        submitted_at: Epoch seconds, one time for all that is handed in together; by default now.
    """
    name = TASKS[request.kind]
    return TaskRecord(
        id=task_id,
        run_id=request.run_id,
        name=name,
        stage=_stage(request),
        label=_label(request),
        queue=ROUTES[name],
        priority=priority,
        submitted_at=time.time() if submitted_at is None else submitted_at,
        deadline=deadline,
        request=request,
    )


def failed(request: AnyRequest, error: BaseException, status: Status = Status.FAILED) -> Result:
    """The result that says ``error`` ended a task."""
    if isinstance(error, TtaError):
        info = ErrorInfo(
            type=type(error).__name__,
            message=error.message,
            hint=error.hint,
            transient=isinstance(error, TransientError),
        )
    else:
        info = ErrorInfo(type=type(error).__name__, message=str(error) or type(error).__name__)
    return RESULTS[request.kind](status=status, error=info)


def _stage(request: AnyRequest) -> Stage:
    if isinstance(request, DeploymentRequest):
        return Stage.STAGING if request.environment == Stage.STAGING else Stage.PRODUCTION
    return Stage(request.kind)


def _label(request: AnyRequest) -> str:
    match request:
        case GenerationRequest():
            return f"generate {request.module.name}"
        case DeploymentRequest():
            return f"roll back {request.environment}" if request.back_to else f"deploy to {request.environment}"
        case _:
            return {"testing": "test", "refactoring": "refactor", "collection": "collect"}[request.kind]
