"""Does the work of a task: takes it from the result cache, or has its stage do it."""

from __future__ import annotations

import time
from contextlib import suppress

from pydantic import ValidationError

from tta_tasks import tracing
from tta_tasks.errors import TreeRefused
from tta_tasks.fleet import waiting_since
from tta_tasks.foreign import Refused
from tta_tasks.ledger import Ledger
from tta_tasks.ledger.records import RESULT
from tta_tasks.models import (
    CollectionRequest,
    DeploymentRequest,
    GenerationRequest,
    GenerationResult,
    RefactoringRequest,
    RefactoringResult,
    Result,
    TaskRecord,
    TestingRequest,
    Usage,
)
from tta_tasks.snapshot.files import shown
from workers.stages import cache_keys, collection, deployment, generation, refactoring, testing
from workers.stages.context import Context


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Do the work of ``task``; the entry point ``perform`` of ``tta_tasks.worker``.

    Raises:
        TtaError: The work cannot be done; transient ones may be tried again.
    """
    with tracing.task(task, lambda: max(0.0, ledger.clock.now() - waiting_since(task))) as tell:
        result = _performed(task, ledger)
        tell(result)
        return result


def _performed(task: TaskRecord, ledger: Ledger) -> Result:
    context = Context(task, ledger)
    key = cache_keys.key_of(task, context)
    if key is not None and (result := _stored(key, context)) is not None and context.holds(result):
        return _cached(result)
    began = time.monotonic()
    try:
        result = _run(task, context)
    except Refused as error:
        raise TreeRefused(
            f"The component's code has left in its tree what is not opened: {shown(str(error.filename))}:"
            f" {error.strerror}.",
            "Run the tests on their own and see what they leave behind.",
        ) from error
    if isinstance(task.request, GenerationRequest) and result.ok:
        ledger.record_duration(task.request.component.name, task.request.module.name, time.monotonic() - began)
    # What an engine could not do this time, it may do the next.
    if key is not None and result.ok and not getattr(result, "notes", ()):
        context.cache.put(key, result.model_dump(mode="json"))
    return result


def _stored(key: str, context: Context) -> Result | None:
    """The result in the cache; one that cannot be read here is made again, and replaced."""
    with suppress(ValidationError):
        if (known := context.cache.get(key)) is not None:
            return RESULT.validate_python(known, extra="ignore")
    return None


def _cached(result: Result) -> Result:
    taken = {"usage": Usage()} if isinstance(result, GenerationResult | RefactoringResult) else {}
    return result.model_copy(update={"cached": True, **taken})


def _run(task: TaskRecord, context: Context) -> Result:
    match task.request:
        case TestingRequest() as request:
            return testing.run(request, context)
        case GenerationRequest() as request:
            return generation.run(request, context)
        case RefactoringRequest() as request:
            return refactoring.run(request, context)
        case CollectionRequest() as request:
            return collection.run(request, context)
        case DeploymentRequest() as request:
            return deployment.run(request, context)
