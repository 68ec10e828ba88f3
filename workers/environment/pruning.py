"""Keeps the cache of environments within its bound."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from uv import find_uv_bin

from tta_tasks.foreign import discard

#: Seconds for uv to empty its cache.
CLEANING_S = 120.0
#: Wheels kept that were built from archives, and seconds after which no workshop is still in use.
MAX_BUILT, WORKSHOP_S = 500, 24 * 3600.0


def prune(cache: Path, max_bytes: int, *, idle_s: float = 2 * 3600) -> int:
    """Remove environments, the least recently used first, until they are within ``max_bytes``.

    Args:
        cache: The host's cache folder.
        max_bytes: Bound of all environments together, and of uv's own cache.
        idle_s: Environments used more recently than this many seconds ago stay: a task may be at work there.

    Returns:
        How many were removed.
    """
    environments = cache / "environments"
    used = sorted((path.stat().st_mtime, path) for path in environments.glob("*.json"))
    sizes = {path: int(json.loads(path.read_text())["bytes"]) for _, path in used}
    removed = 0
    for used_at, ready in used:
        if sum(sizes.values()) <= max_bytes or used_at > time.time() - idle_s:
            break
        with suppress(Timeout), FileLock(ready.with_suffix(".lock"), blocking=False):
            ready.unlink()
            discard(ready.with_suffix(""))
            removed += 1
            del sizes[ready]
    for built in _by_age(cache / "built")[:-MAX_BUILT]:
        discard(built)
    for left in _by_age(cache / "workshops"):
        if left.stat().st_mtime < time.time() - WORKSHOP_S:
            discard(left)
    if size(cache / "uv") > max_bytes:
        # uv waits for those that use it.
        command = [find_uv_bin(), "cache", "clean", "--quiet", "--cache-dir", str(cache / "uv")]
        with suppress(subprocess.TimeoutExpired):  # they are at it still; the next build tries again
            subprocess.run(command, check=False, capture_output=True, timeout=CLEANING_S)
    return removed


def _by_age(folder: Path) -> list[Path]:
    """What a folder of ours holds, the oldest first."""
    with suppress(FileNotFoundError):  # another process removes, too
        return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    return []


def size(folder: Path) -> int:
    """Bytes of the files below ``folder``, however deep it is; what cannot be looked at counts nothing."""
    total, pending = 0, [os.fspath(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
