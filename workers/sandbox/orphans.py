"""Finds and ends what outlived its launcher, where there is no process namespace that would have ended with it.

A launcher is the parent of all orphans among its command's processes. If it is killed itself (the command may not, the
kernel for want of memory may), they become ours. They are told from our own children by the filter of system calls
that each carries, and cannot take off (:mod:`workers.sandbox.syscalls`). Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from workers.sandbox import kernel

#: Longest wait, in seconds, for killed processes to vanish.
ENDING_S = 10.0


_lock = threading.Lock()
_adopting = 0


def adopt() -> None:
    """Become the parent of what loses its launcher, until :func:`let_go` was called as often."""
    global _adopting  # noqa: PLW0603 - the kernel has one switch a process
    if sys.platform == "linux":
        with _lock:
            _adopting += 1
            kernel.become_subreaper()


def let_go() -> None:
    """Be so no longer: what others leave behind is for the system to reap."""
    global _adopting  # noqa: PLW0603 - see adopt
    if sys.platform == "linux":
        with _lock:
            _adopting -= 1
            if not _adopting:
                kernel.become_subreaper(wanted=False)


def end() -> None:
    """End all that came to us, and what comes of that."""
    deadline = time.monotonic() + ENDING_S
    while (found := set(_adopted())) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ChildProcessError):  # another thread waited for it
                os.waitpid(pid, 0)


def _adopted() -> Iterator[int]:
    """Our children with more filters than we have."""
    if sys.platform != "linux":
        return
    own = _filters("self")
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, ValueError):
            for pid in (task / "children").read_text().split():
                if _filters(pid) > own:
                    yield int(pid)


def _filters(pid: str) -> int:
    """Number of filters of system calls that a process carries; 0 of one that has ended (Linux 5.9)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Seccomp_filters:"):
                return int(line.split()[1])
    return 0
