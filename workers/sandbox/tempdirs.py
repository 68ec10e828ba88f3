"""Throwaway folders that do not outlive their task, whatever becomes of its worker."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tta_tasks.foreign import discard


@contextlib.contextmanager
def create(parent: Path) -> Iterator[Path]:
    """A new folder below ``parent``, removed at the end of the block.

    A lock file beside it is held meanwhile; the kernel frees it when the process dies, and :func:`reap` sees that.
    """
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = parent / uuid.uuid4().hex
    with FileLock(_lock(path)):
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            _remove(path)


def reap(parent: Path) -> int:
    """Remove the folders below ``parent`` whose processes have died; answer how many."""
    reaped = 0
    # A process may have died with its lock and no folder yet, or any more.
    for path in {entry.with_suffix("") for entry in parent.iterdir()} if parent.is_dir() else ():
        with contextlib.suppress(Timeout), FileLock(_lock(path), blocking=False):
            _remove(path)
            reaped += 1
    return reaped


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _remove(path: Path) -> None:
    discard(path)
    _lock(path).unlink(missing_ok=True)
