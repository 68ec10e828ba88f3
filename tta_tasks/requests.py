"""From a request to the ledger's entry for it, and to the result that says it was not carried out."""

from __future__ import annotations

import time
from typing import Final

from tta_tasks.errors import TransientError, TtaError
from tta_tasks.kinds import kind_of
from tta_tasks.models import AnyRequest, ErrorInfo, Priority, Result, Status, TaskRecord

#: Why a task ends that has a deadline.
LATE: Final = "Not done before its deadline."


def record_of(
    request: AnyRequest,
    task_id: str,
    priority: Priority = Priority.NORMAL,
    deadline: float | None = None,
) -> TaskRecord:
    """The ledger's first entry for ``request``.

    Args:
        request: What is wanted.
        task_id: Its task's id.
        priority: How urgent it is.
        deadline: Epoch seconds; not done by then, it ends as failed.
    """
    kind = kind_of(request)
    return TaskRecord(
        id=task_id,
        run_id=request.run_id,
        name=kind.task,
        stage=kind.stage(request),
        label=kind.label(request),
        queue=kind.queue,
        optional=kind.optional,
        gated=kind.gated,
        priority=priority,
        submitted_at=time.time(),
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
    return kind_of(request).result(status=status, error=info)
