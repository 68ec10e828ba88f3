"""Throwaway folders that do not outlive their task, whatever becomes of its worker."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tta_tasks.errors import SandboxError
from tta_tasks.foreign import discard


def private(name: str) -> Path:
    """This user's folder of that name where temporary files go, made where it is missing; for :func:`create`.

    Raises:
        SandboxError: It cannot be made, or somebody else may write there.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"{name}-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SandboxError(f"No temporary folder can be made at {folder}: {error.strerror}.") from error
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or others:
        raise SandboxError(f"{folder} belongs to somebody else.", "Remove it, or point TMPDIR to another folder.")
    return folder


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
