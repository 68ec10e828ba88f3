"""What a worker does with the message of a task: takes it from the ledger to its end there.

A task never raises into its canvas: a fault is a result, too, and the callback of a chord sees everything.

A message costs more than a task that takes a millisecond. So a process that has seen a run's tasks of one kind end as
soon as they had begun goes on with the run's next one in the very step that ends the last (:func:`_go_on`): for a
moment only, so that nothing more urgent waits, and only while nobody listens to Celery's events, to which messages are
tasks.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar, cast

from celery import Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from celery.utils.time import maybe_iso8601
from pydantic import ValidationError

from tta_tasks import plugins, publishing
from tta_tasks.errors import Cancelled, RecordMissing, RecordUnreadable, TransientError, TtaError, UsageError
from tta_tasks.kinds import kind_of
from tta_tasks.ledger import GRACE_S, BeginResult, Ledger, TransitionResult
from tta_tasks.ledger.records import REQUEST
from tta_tasks.models import AnyRequest, Promotion, Result, Status, TaskRecord
from tta_tasks.requests import LATE, failed, record_of
from tta_tasks.settings import settings

log = logging.getLogger(__name__)

#: So many quick tasks of a run in a row, and the next is expected to be quick as well.
QUICK_IN_A_ROW = 3
#: For how long a process goes on with other tasks on one message, in seconds; it ends the one it has begun.
GO_ON_S = 0.02

#: Attribute of a message's request, set by its worker: nobody listens to Celery's events.
UNHEARD = "tta_unheard"

A = TypeVar("A")


class Perform(Protocol):
    """What the entry point ``perform`` of ``tta_tasks.worker`` names: how a worker host does a task's work."""

    def __call__(self, task: TaskRecord, ledger: Ledger) -> Result:
        """Do the work of ``task``.

        Raises:
            TransientError: It may work later; the task is tried again.
            PermanentError: It will not; the task ends as failed.
        """


class Promote(Protocol):
    """What the entry point ``promote`` of ``tta_tasks.worker`` names: whether a deployment may be begun."""

    def __call__(self, task: TaskRecord, ledger: Ledger) -> Promotion | None:
        """See what ``task`` still waits for; ``None`` when it may be begun.

        Raises:
            TransientError: It cannot be told now; somebody looks again.
            PermanentError: It must not be begun; the task ends as failed.
        """


def deliver(task: Task[..., Any], request: dict[str, Any] | None) -> dict[str, str]:
    """Take a task from its message to its end in the ledger; answer only where that is.

    Raises:
        Ignore: The message is a copy, or nothing can be done about it now; no chord counts it. What the ledger has
            accepted is published again.
        Retry: A transient fault.
    """
    try:
        return _done(ledger(), task, request)
    except (RecordMissing, RecordUnreadable, UsageError, TransientError) as error:
        log.error("%s %s: %s", task.name, task.request.id, error)  # noqa: TRY400 - foreseen; one line is enough
        raise Ignore from error


def _done(ledger: Ledger, task: Task[..., Any], request: dict[str, Any] | None) -> dict[str, str]:
    worker, slots = task.request.hostname or "", task.app.conf.worker_concurrency or 1
    redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
    begin = partial(ledger.begin, str(task.request.id), task.name, worker, slots=slots, redelivered=redelivered)
    begun, record = _known(begin(), begin, ledger, task, request)
    result: Result | Promotion | None = None
    if begun.outcome is TransitionResult.GATED and (result := _unpromoted(ledger, record)) is None:
        begun = begin(promoted=True)
    if isinstance(result, Promotion):
        ledger.parking.park(record, result)
        raise Ignore  # the reconciler, or a person's approval, publishes it again
    if begun.outcome is TransitionResult.ENDED:
        return _reply(record.id, record.result)
    began = time.monotonic()
    result = result or _result(begun, ledger, task)
    quick = _pace.quick(record, time.monotonic() - began) and task.request.get(UNHEARD, False)
    moved, following = _finish(ledger, task, record, result, go_on=quick)
    _go_on(ledger, task, following)
    if not moved:
        return _reply(record.id, ledger.task(record.id).result)  # it was ended meanwhile
    return _reply(record.id, result)


def _go_on(ledger: Ledger, task: Task[..., Any], record: TaskRecord | None) -> None:
    """Do the tasks that were begun on a message after its own, while they are quick."""
    worker, until = task.request.hostname or "", time.monotonic() + GO_ON_S
    while record is not None:
        began = time.monotonic()
        try:
            result = _performed(ledger, record)
        except RecordUnreadable as error:
            _leave(ledger, record, error, worker)
            return
        except kind_of(record.request).retry.retry_on as error:
            # Retries are counted on a message of its own.
            if ledger.requeue(record, f"again: {error.message}", GRACE_S, worker=worker) is TransitionResult.APPLIED:
                publishing.publish([record])
            return
        took = time.monotonic() - began
        quick = _pace.quick(record, took) and time.monotonic() < until
        log.info("Task %s[%s] %s in %.4fs", record.name, record.id, result.status, took)
        _, record = _finish(ledger, task, record, result, go_on=quick)


class _Pace:
    """How fast the tasks of a run go, as this process sees it."""

    def __init__(self) -> None:
        self._kind: tuple[str | None, str] = None, ""
        self._quick = 0

    def quick(self, task: TaskRecord, seconds: float) -> bool:
        """Whether the tasks of the run are quick, now that ``task`` took so long."""
        kind = task.run_id, task.name
        if kind != self._kind:
            self._kind, self._quick = kind, 0
        self._quick = self._quick + 1 if seconds <= settings().quick_task_s else 0
        return task.run_id is not None and self._quick >= QUICK_IN_A_ROW


_pace = _Pace()


def _result(begun: BeginResult, ledger: Ledger, task: Task[..., Any]) -> Result:
    """The work done, or why it is not."""
    match begun:
        case BeginResult(TransitionResult.APPLIED, TaskRecord() as record):
            return _given_up(ledger, record) or _attempted(ledger, task, record)
        case BeginResult(TransitionResult.CANCELLED, TaskRecord() as record):
            return failed(record.request, TtaError("It was cancelled."), Status.CANCELLED)
        case BeginResult(TransitionResult.LATE, TaskRecord() as record):
            return failed(record.request, TtaError(LATE))
        case BeginResult(TransitionResult.BLOCKED, TaskRecord() as record):
            why = begun.blocked or "a task whose result it needs has expired"
            return failed(record.request, TtaError(f"Not begun, as {why}."), Status.SKIPPED)
        case _:
            raise Ignore  # a copy, while somebody is at work, or one that came too early


def _known(
    begun: BeginResult,
    begin: Callable[[], BeginResult],
    ledger: Ledger,
    task: Task[..., Any],
    request: dict[str, Any] | None,
) -> tuple[BeginResult, TaskRecord]:
    """What was begun; a request that a producer published without the ledger is accepted now.

    Raises:
        RecordMissing: There is neither record nor request.
        UsageError: The request is none, or one for another task: a queue's workers do only what is meant for it.
    """
    task_id = str(task.request.id)
    if begun.outcome is TransitionResult.UNKNOWN and request is not None:
        record = record_of(_validated(request), task_id)
        if record.name == task.name:
            ledger.accept([record], delivered=True)
            if _expired(ledger, task):
                error = TtaError("It had expired before a worker took it.", "`expires` of the message says when.")
                ledger.finish(record, failed(record.request, error, Status.CANCELLED))
            begun = begin()
        else:
            begun = BeginResult(TransitionResult.MISMATCH, record)
    if begun.task is None:
        raise RecordMissing(f"No task {task_id} is known here.", "It has expired, or was never accepted.")
    if begun.outcome is TransitionResult.MISMATCH:
        raise UsageError(f"The message is for {task.name}, its request for {begun.task.name}.", "It is not acted upon.")
    return begun, begun.task


def _expired(ledger: Ledger, task: Task[..., Any]) -> bool:
    """Whether the message was to be acted upon until a time that is over."""
    expires: Any = task.request.expires  # the types have it for a number
    try:
        until = maybe_iso8601(expires)
    except (ValueError, TypeError):
        return False  # no time that can be read
    if until is None:
        return False
    moment = until if until.tzinfo else until.replace(tzinfo=UTC)  # as Celery has it
    return moment.timestamp() < ledger.clock.now()


def _attempted(ledger: Ledger, task: Task[..., Any], record: TaskRecord) -> Result:
    policy = kind_of(record.request).retry
    try:
        return _performed(ledger, record)
    except RecordUnreadable as error:
        _leave(ledger, record, error, task.request.hostname or "")
        raise
    except policy.retry_on as error:
        if task.request.retries < policy.max_retries:
            raise _again(ledger, task, record, error) from error
        return failed(record.request, error)


def _leave(ledger: Ledger, record: TaskRecord, error: RecordUnreadable, worker: str) -> None:
    """Leave a task to a worker that can read what it needs; the reconciler publishes it again."""
    ledger.requeue(record, f"left to another worker: {error.message}", GRACE_S, worker=worker)


def _again(ledger: Ledger, task: Task[..., Any], record: TaskRecord, error: TtaError) -> Exception:
    """What to raise so that the task is tried again later."""
    policy = kind_of(record.request).retry
    delay = policy.delay_s(task.request.retries)
    why = f"again in {delay:.0f} s: {error.message}"
    if ledger.requeue(record, why, delay + GRACE_S, worker=task.request.hostname or "") is not TransitionResult.APPLIED:
        return Ignore()  # it was taken for lost, and another one is doing it, or it was ended
    return task.retry(countdown=delay, max_retries=policy.max_retries, throw=False)


def _finish(
    ledger: Ledger, task: Task[..., Any], record: TaskRecord, result: Result, *, go_on: bool
) -> tuple[bool, TaskRecord | None]:
    """Write the end down, and insist: an hour's work must not be lost to a Redis that is restarted.

    Returns:
        Whether this was its end, and not another one before; and the task that the message goes on with.
    """
    worker, slots = task.request.hostname or "", task.app.conf.worker_concurrency or 1
    message, start = str(task.request.id), uuid.uuid4().hex
    until = time.monotonic() + settings().lease_s
    while True:
        try:
            if go_on:
                return ledger.finish_and_begin(record, result, worker, message=message, start=start, slots=slots)
            return ledger.finish(record, result, worker), None
        except TransientError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _reply(task_id: str, result: Result | None) -> dict[str, str]:
    """What the worker's log and events show of the task's end."""
    reply = {"task_id": task_id}
    if result is not None:
        reply["status"] = result.status.value
        if result.error is not None:
            reply["error"] = f"{result.error.type}: {result.error.message[:300]}"
    return reply


@lru_cache(maxsize=1)
def ledger() -> Ledger:
    """The ledger of this process's tasks."""
    return Ledger.connect(settings())


def _validated(request: dict[str, Any]) -> AnyRequest:
    try:
        validated = REQUEST.validate_python(request, extra="ignore")
        if unknown := request.keys() - type(validated).model_fields:
            log.warning("A request has fields that are unknown here, and ignored: %s", ", ".join(sorted(unknown)))
        return validated  # noqa: TRY300 - the exception is of validating
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"Its request does not hold: {where}: {first['msg']}.", "It is not acted upon.") from error


def _unpromoted(ledger: Ledger, record: TaskRecord) -> Promotion | Result | None:
    """What a deployment waits for before it is begun, or why it never will be."""
    promote = cast("Promote", plugins.load(plugins.WORKER, "promote"))
    return _answered(record, lambda: promote(record, ledger))


def _given_up(ledger: Ledger, record: TaskRecord) -> Result | None:
    """Why the work must not be begun once more."""
    if record.losses < kind_of(record.request).retry.max_losses:
        return None
    why = f"Given up: its worker was lost {record.losses} times while doing it."
    ledger.dead_letter(record, why)
    return failed(record.request, TtaError(why))


def _performed(ledger: Ledger, record: TaskRecord) -> Result:
    perform = cast("Perform", plugins.load(plugins.WORKER, "perform"))
    return _answered(record, lambda: perform(record, ledger))


def _answered(record: TaskRecord, ask: Callable[[], A]) -> A | Result:
    """The worker's answer, or the result that says why there is none."""
    kind = kind_of(record.request)
    try:
        return ask()
    except RecordUnreadable:
        raise
    except kind.retry.retry_on:
        raise
    except Cancelled as error:
        return failed(record.request, error, Status.CANCELLED)
    except TtaError as error:
        return failed(record.request, error)
    except SoftTimeLimitExceeded:
        _, limit = kind.time_limits(settings())
        return failed(record.request, TtaError(f"Ended after {limit} s.", "TTA_TASK_TIMEOUT_S sets the limit."))
    except Exception as error:
        log.exception("%s %s: unexpected fault", record.name, record.id)
        return failed(record.request, error)
