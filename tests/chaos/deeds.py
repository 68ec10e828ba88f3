"""What the tasks of the chaos suite do; a task's name says which deed. No deed trusts Redis with its record."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from tests.chaos import effects
from tests.chaos.journal import note
from tta_tasks.errors import EngineFailed, StoreUnavailable
from tta_tasks.kinds import kind_of
from tta_tasks.ledger import Ledger
from tta_tasks.models import CollectionRequest, DeploymentRequest, GenerationRequest, Result, Status, TaskRecord
from tta_tasks.protocols import Limits
from workers.sandbox import detect_sandbox

#: Seconds that a long deed takes; longer than the visibility timeout of the suite.
LONG_S = 4.5
#: Marks processes that must not outlive their task.
ORPHAN_S = "86399.25"


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Do the deed and note its start and its end; the entry point ``perform``."""
    attempt = ledger.task(task.id).attempts
    note("start", task.id, attempt=attempt)
    result = _performed(task, attempt, ledger)
    note("end", task.id, attempt=attempt)
    return result


def _performed(task: TaskRecord, attempt: int, ledger: Ledger) -> Result:
    match task.request:
        case GenerationRequest() as request:
            do(request.module.name.partition("-")[0], attempt)
            if task.run_id:
                return effects.contribute(task, request.module, attempt, ledger)
        case CollectionRequest():
            return effects.collect(task, ledger)
        case DeploymentRequest() as request:
            token = ledger.task(task.id).started_at or 0.0
            effects.release(task.id, request.component.name, request.environment, token)
        case _:
            do("short", attempt)
    return kind_of(task.request).result(status=Status.COMPLETED)


def do(deed: str, attempt: int) -> None:
    """Do one deed.

    Raises:
        EngineFailed: It fails.
        StoreUnavailable: It would work later.
        MemoryError: It wanted more than there is.
    """
    match deed:
        case "short":
            time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - not a secret
        case "long":
            time.sleep(LONG_S)
        case "fails":
            raise EngineFailed("It gave up.")
        case "transient" if attempt == 1:
            raise StoreUnavailable("It does not answer.")
        case "exits" if attempt == 1:
            os._exit(3)
        case "poison":
            os._exit(4)
        case "hungry":
            bytearray(1 << 60)
        case "starved" | "forking" | "hanging":
            _sandboxed(deed)
        case "stuck":
            _stay()


def _sandboxed(deed: str) -> None:
    programs = {
        "starved": [sys.executable, "-c", "bytearray(1 << 33)"],
        "forking": ["sh", "-c", f"setsid sleep {ORPHAN_S} & sleep {ORPHAN_S} & exit 0"],
        "hanging": ["sleep", ORPHAN_S],
    }
    done = detect_sandbox().run(
        programs[deed], cwd=Path("/"), limits=Limits(wall_s=0.5 if deed == "hanging" else 20, memory_bytes=1 << 30)
    )
    if not done.ok:
        raise EngineFailed(f"It ended with status {done.returncode}.")


def _stay() -> None:
    """Ignore every polite request to end."""
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(1)
