"""A worker's ``perform`` whose work is what a component's, or a module's, name says. For tests of queue and canvas.

Its deployer puts nothing anywhere: an environment is unwell while the file ``unwell`` is in its folder, and holds what
it was asked for until it is told to go back, which is written to ``back``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from tta_tasks.errors import EngineFailed, RecordUnreadable, StoreUnavailable
from tta_tasks.kinds import kind_of
from tta_tasks.ledger import Ledger
from tta_tasks.models import (
    AnyRequest,
    Check,
    CollectionRequest,
    Component,
    DeploymentRequest,
    End,
    GateOutcome,
    GenerationRequest,
    Result,
    Status,
    TaskRecord,
)
from tta_tasks.protocols import History, Release, ReleaseRequest
from tta_tasks.settings import settings
from tta_tasks.stores import open_store
from workers.component.wheels import release_digest

#: What every collection puts together.
TREE = "1" * 64
#: What was deployed before any run.
EARLIER = "2" * 64

#: What a module that ``leaves`` something leaves.
ARTIFACT_BYTES = 20_000


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Do what the name says, then complete."""
    request = task.request
    what = f"{request.component.name}_{task.stage}"
    if isinstance(request, GenerationRequest):
        what = request.module.name
    attempts = ledger.task(task.id).attempts
    if what.endswith("fails") or what == f"broken_{task.stage}":
        raise EngineFailed("It gave up.", "Try another one.")
    if what.endswith("raises"):
        raise ValueError("unforeseen")
    if what.endswith("dies") or (what.endswith("dies_once") and attempts == 1):
        os._exit(7)
    if what.endswith("unreachable_once") and attempts == 1:
        raise StoreUnavailable("It does not answer.")
    if what.endswith("unreadable_once") and attempts == 1:
        raise RecordUnreadable("The record of task t cannot be read here.", "Upgrade this host.")
    if what.endswith("waits"):
        until = time.monotonic() + 30
        while time.monotonic() < until and not ledger.is_cancelled(task):
            time.sleep(0.05)
        return kind_of(request).result(status=Status.CANCELLED)
    _linger(what, attempts)
    return kind_of(request).result.model_validate({"status": Status.COMPLETED, **_made(request)})


def _made(request: AnyRequest) -> dict[str, object]:
    """What a result tells beside its status."""
    match request:
        case GenerationRequest(module=module) if module.name.endswith("leaves"):
            return {"module": module, "patch": open_store(settings()).put(os.urandom(ARTIFACT_BYTES))}
        case GenerationRequest(module=module):
            return {"module": module}
        case CollectionRequest(component=component):
            asks = component.name.endswith("asks")
            gate = GateOutcome(name="criteria", outcome="parked", detail="AC3 has no test", waits_for="judge AC3")
            return {"tree": TREE, "gates": (gate,) if asks else ()}
        case DeploymentRequest(environment=environment, component=component):
            release = release_digest(TREE, component)
            return {"environment": environment, "release": release, "action": "released"}
        case _:
            return {}


class Deployer:
    """Tells how an environment is."""

    name = "scripted"

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """Look for the file ``unwell``."""
        return (Check(name="health", ok=not _file(request.target, "unwell").exists(), detail="asked"),)

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> tuple[str, ...]:  # noqa: ARG002
        """One that was there before."""
        return (EARLIER,)

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:  # noqa: ARG002
        """What was gone back to, or what every run releases."""
        back = _file(target, "back")
        if back.exists():
            return History(current=back.read_text())
        return History(current=release_digest(TREE, Component(name=component, modules=())))

    def release(self, request: ReleaseRequest) -> Release:
        """Write down what is gone back to."""
        assert request.back
        _file(request.target, "back").write_text(request.digest)
        return Release("released", "nowhere")


class Observer:
    """Writes down what it is told, where ``SCRIPTED_OBSERVER`` is set; raises the first time, after that."""

    name = "scripted"
    tasks = True

    def available(self) -> str:
        """Whether the test wants it."""
        return "" if "SCRIPTED_OBSERVER" in os.environ else "SCRIPTED_OBSERVER is not set"

    def ended(self, end: End) -> None:
        """One line each."""
        journal = settings().cache / "ends"
        journal.parent.mkdir(parents=True, exist_ok=True)
        first = not journal.exists()
        with journal.open("a") as lines:
            lines.write(end.model_dump_json() + "\n")
        if first:
            raise RuntimeError("the first time")


def _file(target: Mapping[str, object], name: str) -> Path:
    return Path(str(target["path"]), name)


def _linger(what: str, attempts: int) -> None:
    """Take the time that the name says; ``stays`` ignores every polite request to end."""
    if what.endswith("outlasts"):
        time.sleep(8)
    if what.endswith("sleeps_once") and attempts == 1:
        time.sleep(60)
    while what.endswith("stays"):
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(1)
