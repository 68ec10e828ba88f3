"""A worker's ``perform`` whose work is what a component's, or a module's, name says. For tests of queue and canvas."""

from __future__ import annotations

import contextlib
import os
import time

from celery.exceptions import SoftTimeLimitExceeded

from tta_tasks.errors import EngineFailed, StoreUnavailable
from tta_tasks.ledger import Ledger
from tta_tasks.models import GenerationRequest, Result, Status, TaskRecord
from tta_tasks.tasks import RESULTS


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Do what the name says, then complete."""
    request = task.request
    if isinstance(request, GenerationRequest):
        what, more = request.module.name, {"module": request.module}
    else:
        what, more = f"{request.component.name}_{task.stage}", {}
    attempts = ledger.task(task.id).attempts
    if what.endswith("fails") or what == f"broken_{task.stage}":
        raise EngineFailed("It gave up.", "Try another one.")
    if what.endswith("raises"):
        raise ValueError("unforeseen")
    if what.endswith("dies") or (what.endswith("dies_once") and attempts == 1):
        os._exit(7)
    if what.endswith("unreachable_once") and attempts == 1:
        raise StoreUnavailable("It does not answer.")
    if what.endswith("waits"):
        until = time.monotonic() + 30
        while time.monotonic() < until and not ledger.unwanted(task):
            time.sleep(0.05)
        return RESULTS[request.kind](status=Status.CANCELLED)
    _linger(what, attempts)
    return RESULTS[request.kind].model_validate({"status": Status.COMPLETED, **more})


def _linger(what: str, attempts: int) -> None:
    """Take the time that the name says; ``stays`` ignores every polite request to end."""
    if what.endswith("outlasts"):
        time.sleep(8)
    if what.endswith("sleeps_once") and attempts == 1:
        time.sleep(60)
    while what.endswith("stays"):
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(1)
