"""Where the local stack of a folder is, if one runs: the file its supervisor keeps in ``.tta/``.

So that ``celery -A tta_tasks ...``, Flower and any producer started in the same folder find it without being told.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

FILE = "stack.json"


class Stack(BaseModel):
    """A running local stack."""

    model_config = ConfigDict(frozen=True)

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
        stack = Stack.model_validate_json((state_dir / FILE).read_bytes())
        os.kill(stack.pid, 0)
    except (OSError, ValidationError):
        return None
    return stack


def write(state_dir: Path, stack: Stack) -> None:
    """Publish ``stack``, whole or not at all."""
    temporary = state_dir / f"{FILE}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text(stack.model_dump_json(), encoding="utf-8")
    temporary.replace(state_dir / FILE)


def remove(state_dir: Path, pid: int) -> None:
    """Withdraw the stack of supervisor ``pid``; another's stays."""
    stack = find(state_dir)
    if stack is None or stack.pid == pid:
        with contextlib.suppress(OSError):
            (state_dir / FILE).unlink(missing_ok=True)
