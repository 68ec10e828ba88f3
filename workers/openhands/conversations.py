"""Folders of agents' conversations: they outlive an attempt, so that the next one continues and pays nothing again."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tta_tasks.errors import EngineFailed, TransientError
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Usage
from tta_tasks.settings import Settings, settings

#: Seconds to wait for an attempt that is ending.
ENDING_S = 30.0
#: Bytes of a block, as a file's status counts them.
BLOCK = 512


@dataclass(frozen=True)
class Conversation:
    """One task's."""

    home: Path
    #: As the SDK names it.
    id: str

    @property
    def tree(self) -> Path:
        """The agent's copy of the tree, at the same path in each attempt."""
        return self.home / "tree"

    @property
    def record(self) -> Path:
        """The SDK's own files; the model's key is not in them."""
        return self.home / "conversation"

    @property
    def notes(self) -> Path:
        """The shell's."""
        return self.home / "shell"

    def begin(self, root: Path) -> None:
        """Copy the tree, in which tests may have run, unless an earlier attempt did.

        Raises:
            EngineFailed: It cannot be copied.
        """
        for folder in (self.record, self.notes):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.tree.exists():
            copy = self.home / "tree.new"
            try:
                ForeignTree(self.home).remove(copy.name)
                ForeignTree(root).copy_to(copy, max_bytes=settings().max_snapshot_bytes)
            except OSError as error:
                raise EngineFailed(f"The tree cannot be copied for an agent: {error}.") from error
            copy.rename(self.tree)

    def usage(self) -> Usage:
        """What it has taken so far, in all attempts."""
        with suppress(OSError, ValueError):
            return Usage.from_stored((self.home / "usage.json").read_bytes())
        return Usage()

    def save_usage(self, usage: Usage) -> None:
        """Note what it has taken so far."""
        _write(self.home / "usage.json", usage.model_dump_json())

    def proposed(self) -> dict[str, str]:
        """What earlier rounds have handed in: path -> sha256."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.home / "proposed.json").read_bytes()))
        return {}

    def propose(self, files: dict[str, str]) -> None:
        """Note what has been handed in."""
        _write(self.home / "proposed.json", json.dumps(files))


@contextmanager
def conversation(settings: Settings, task_id: str) -> Iterator[Conversation]:
    """The conversation of a task, for one attempt at a time.

    Raises:
        TransientError: Another attempt is at it still.
    """
    parent = settings.cache / "conversations"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = hashlib.sha256((task_id or uuid.uuid4().hex).encode()).hexdigest()[:24]
    home = parent / key
    if not home.exists():
        prune(parent, settings.conversation_keep_s, settings.conversation_bytes)
    try:
        with FileLock(home.with_suffix(".lock"), timeout=ENDING_S):
            home.mkdir(mode=0o700, exist_ok=True)
            os.utime(home)
            yield Conversation(home, str(uuid.uuid5(uuid.NAMESPACE_OID, key)))
            os.utime(home)
    except Timeout as error:
        raise TransientError("Another attempt at this task still holds its conversation.") from error


def prune(parent: Path, keep_s: float, max_bytes: int) -> int:
    """Remove conversations that were not used for ``keep_s``, and the oldest above ``max_bytes``; answer how many."""
    kept = ForeignTree(parent)
    homes = sorted((path.stat().st_mtime, path) for path in parent.iterdir() if path.is_dir())
    sizes = {path: _size(kept, path.name, max_bytes) for _, path in homes}
    removed = 0
    for used_at, home in homes:
        if used_at > time.time() - keep_s and sum(sizes.values()) <= max_bytes:
            break
        with suppress(Timeout), FileLock(home.with_suffix(".lock"), blocking=False):
            with suppress(OSError):
                kept.remove(home.name)
            home.with_suffix(".lock").unlink(missing_ok=True)
            del sizes[home]
            removed += 1
    return removed


def _size(kept: ForeignTree, name: str, most: int) -> int:
    """Bytes of a conversation on the disk; ``most`` where an agent has left what cannot be counted."""
    try:
        return sum(found.status.st_blocks * BLOCK for found in kept.walk(name))
    except OSError:
        return most


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
