"""A worker's ``perform`` whose work is what a component's, or a module's, name says. For tests of queue and canvas.

Its deployer puts nothing anywhere: an environment is unwell while the file ``unwell`` is in its folder.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from tta_tasks.errors import EngineFailed, StoreUnavailable
from tta_tasks.ledger import Ledger
from tta_tasks.models import (
    Check,
    CollectionRequest,
    DeploymentRequest,
    GenerationRequest,
    Result,
    Status,
    TaskRecord,
)
from tta_tasks.protocols import ReleaseRequest
from tta_tasks.tasks import RESULTS
from workers.build import release_digest

#: What every collection puts together.
TREE = "1" * 64


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Do what the name says, then complete."""
    request = task.request
    more: dict[str, object] = {}
    if isinstance(request, GenerationRequest):
        what, more = request.module.name, {"module": request.module}
    else:
        what = f"{request.component.name}_{task.stage}"
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
    if isinstance(request, CollectionRequest):
        more = {"tree": TREE}
    elif isinstance(request, DeploymentRequest):
        release = release_digest(TREE, request.component)
        more = {"environment": request.environment, "release": release, "action": "released"}
    return RESULTS[request.kind].model_validate({"status": Status.COMPLETED, **more})


class Deployer:
    """Tells how an environment is."""

    name = "scripted"

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """Look for the file ``unwell``."""
        return (Check(name="health", ok=not Path(str(request.target["path"]), "unwell").exists(), detail="asked"),)


def _linger(what: str, attempts: int) -> None:
    """Take the time that the name says; ``stays`` ignores every polite request to end."""
    if what.endswith("outlasts"):
        time.sleep(8)
    if what.endswith("sleeps_once") and attempts == 1:
        time.sleep(60)
    while what.endswith("stays"):
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(1)
