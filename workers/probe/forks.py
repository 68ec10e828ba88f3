"""A fork for a piece of work, watched by its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.002
#: Bytes that a fork may send.
MAX_SENT = 8 << 20
_CHUNK = 1 << 16
#: The last that a fork sends; nothing else that it sends has it.
_END = b"\0"


@dataclass(frozen=True)
class Ending:
    """How a fork ended."""

    #: What it sent before its end.
    sent: bytes
    #: ``done``, ``timeout``, or how it died: ``exit status 3``, ``signal 11``, ``more than 8 MB told``.
    how: str
    #: Whether processes of its own were still there.
    processes_left: bool


def adopt_orphans() -> None:
    """Make this process the parent of whatever its children leave behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork(work: Callable[[Callable[[bytes], None]], None], timeout_s: float) -> Ending:
    """Run ``work`` in a fork with a session of its own; it gets a function to send bytes to us.

    Nothing of the fork is alive when this returns.
    """
    had_children = _children_alive()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        try:
            work(lambda data: _send(writing, data))
            _send(writing, _END)
        finally:
            os._exit(0)
    os.close(writing)
    os.set_blocking(reading, False)
    sent = bytearray()
    how = _wait(child, reading, sent, timeout_s)
    alive = _group_alive(child) or (not had_children and _children_alive())
    _kill_group(child)
    _read(reading, sent)  # without blocking: something the fork left may still hold the other end
    os.close(reading)
    if how == "exit status 0" and sent.endswith(_END):
        how = "done"
    return Ending(
        bytes(sent.removesuffix(_END)) if how == "done" else bytes(sent), how, processes_left=alive and how == "done"
    )


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, sent: bytearray) -> None:
    """Take what is there, as far as it is not too much."""
    try:
        while len(sent) <= MAX_SENT and (chunk := os.read(descriptor, _CHUNK)):
            sent += chunk
    except BlockingIOError:
        pass  # all there is has been read


def _wait(child: int, reading: int, sent: bytearray, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    how = "timeout"
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if os.WIFSIGNALED(status):
                return f"signal {os.WTERMSIG(status)}"
            return f"exit status {os.WEXITSTATUS(status)}"
        _read(reading, sent)
        if len(sent) > MAX_SENT:
            how = f"more than {MAX_SENT >> 20} MB told"
            break
        time.sleep(_POLL_S)
    _kill_group(child)
    os.waitpid(child, 0)
    return how


def _children_alive() -> bool:
    """Whether this process has children that have not ended; reaps those that have."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True


def _group_alive(group: int) -> bool:
    _children_alive()
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
