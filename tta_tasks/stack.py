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
    """The stack whose supervisor lives in ``state_dir``, or ``None``."""
    try:
        with (state_dir / LOCK).open("rb") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            stored = json.loads((state_dir / FILE).read_bytes())
            # A supervisor of another version may tell more.
            return Stack(**{field.name: stored[field.name] for field in fields(Stack)})
    except OSError:
        return None  # no stack was ever here
    return None


@contextlib.contextmanager
def supervised(state_dir: Path) -> Iterator[None]:
    """Be the supervisor of ``state_dir`` for the length of the block; waits for the one before to be gone."""
    with (state_dir / LOCK).open("ab") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        (state_dir / FILE).unlink(missing_ok=True)  # of one that was killed
        yield


def write(state_dir: Path, stack: Stack) -> None:
    """Publish ``stack``, whole or not at all."""
    temporary = state_dir / f"{FILE}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(asdict(stack)), encoding="utf-8")
    temporary.replace(state_dir / FILE)


def remove(state_dir: Path) -> None:
    """Withdraw the stack of ``state_dir``; for its supervisor."""
    (state_dir / FILE).unlink(missing_ok=True)
