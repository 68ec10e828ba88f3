"""Where the local stack of a folder is, if one runs: the file its supervisor keeps in ``.tta/``.

So that ``celery -A tta_tasks ...``, Flower and any producer started in the same folder find it without being told.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tta_tasks import folders

FILE = "stack.json"
#: Held by the supervisor as long as it lives. (Its process id would not tell: it may be another's by now.)
LOCK = "supervisor.lock"
#: Held, shared, by what still delivers ends when the worker has been ended; the broker stays for it.
COURIERS = "couriers.lock"


@dataclass(frozen=True)
class Stack:
    """A running local stack."""

    #: Process id of its supervisor.
    pid: int
    #: URL of its broker, with the password: the file is readable by its owner only.
    broker_url: str
    #: Tasks it does at once.
    slots: int
    #: Whether it stays when nobody uses it.
    kept: bool
    started_at: float


def find(state_dir: Path) -> Stack | None:
    """The stack whose supervisor lives in the folder that ``TTA_STATE_DIR`` names, or ``None``.

    Raises:
        SettingsError: We did not make that folder.
    """
    if (state := folders.found(state_dir, folders.STATE)) is None:
        return None
    try:
        with folders.opened(state / LOCK, "rb") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            with folders.opened(state / FILE, "rb") as file:
                stored = json.loads(file.read())
            # A supervisor of another version may tell more.
            return Stack(**{field.name: stored[field.name] for field in fields(Stack)})
    except OSError:
        return None  # no stack was ever here
    return None


@contextlib.contextmanager
def supervised(state: Path) -> Iterator[None]:
    """Be the supervisor of a state folder of ours for the length of the block; waits for the one before to be gone."""
    with folders.opened(state / LOCK, "ab") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        (state / FILE).unlink(missing_ok=True)  # of one that was killed
        yield


def write(state: Path, stack: Stack) -> None:
    """Publish ``stack`` in a state folder of ours, whole or not at all; for its supervisor."""
    temporary = state / f"{FILE}.{os.getpid()}"
    with folders.opened(temporary, "wb") as file:
        file.write(json.dumps(asdict(stack)).encode())
    temporary.replace(state / FILE)


def remove(state: Path) -> None:
    """Withdraw the stack of a state folder of ours; for its supervisor."""
    (state / FILE).unlink(missing_ok=True)
