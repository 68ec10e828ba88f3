"""What a worker's main process tells the ledger when the pool's process no longer can.

A task's own process writes its end down. It cannot when it was killed: by the hard time limit, by an operator's revoke,
or by the kernel. Without a word the ledger would take the task for running until its lease ends, and do it again.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from billiard.exceptions import TimeLimitExceeded
from celery.signals import task_failure, task_revoked

from tta_tasks import publishing
from tta_tasks.errors import RecordMissing, RecordUnreadable, TransientError, TtaError
from tta_tasks.kinds import BY_TASK
from tta_tasks.ledger import GRACE_S, Ledger, TransitionResult
from tta_tasks.models import Status
from tta_tasks.requests import failed
from tta_tasks.settings import settings

log = logging.getLogger(__name__)

UNWRITTEN: Final = "%s: what became of it was not written down, and the reconciler will see to it: %s"


def give_back(task_id: str, worker: str, why: str, *, lost: bool) -> None:
    """Record that ``worker`` does the task no more; its message goes back to the queue.

    Args:
        task_id: The task whose message it was; the worker may have gone on with another one.
        worker: Node name of the worker.
        why: For a person.
        lost: Whether the task may be to blame; too often, and it is given up.
    """
    try:
        ledger = Ledger.connect(settings())
        record = ledger.claimed_task(task_id)
        moved = ledger.requeue(record, f"again: {why}", GRACE_S, worker=worker, lost=lost)
        if moved is TransitionResult.APPLIED and record.id != task_id:
            publishing.publish([record])
    except (RecordMissing, RecordUnreadable, TransientError) as error:
        log.warning(UNWRITTEN, task_id, error)


def end(task_id: str, why: TtaError, status: Status = Status.FAILED) -> None:
    """Record that nobody will do the task any more that the message of ``task_id`` had come to."""
    try:
        ledger = Ledger.connect(settings())
        record = ledger.claimed_task(task_id)
        ledger.finish(record, failed(record.request, why, status))
    except (RecordMissing, RecordUnreadable, TransientError) as error:
        log.warning(UNWRITTEN, task_id, error)


@task_failure.connect
def _overran(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:  # noqa: ANN401 - signal's own
    if sender.name in BY_TASK and isinstance(exception, TimeLimitExceeded):
        limit = BY_TASK[sender.name].time_limits(settings())[0]
        end(
            task_id,
            TtaError(f"Killed after {limit} s: it did not end when asked to.", "TTA_TASK_TIMEOUT_S sets the limit."),
        )


@task_revoked.connect
def _revoked(sender: Any, request: Any, **_: Any) -> None:  # noqa: ANN401 - signal's own
    if sender.name in BY_TASK:
        end(request.id, TtaError("It was revoked."), Status.CANCELLED)
