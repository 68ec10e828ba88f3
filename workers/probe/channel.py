"""What happened, told to the referee the moment it happens."""

from __future__ import annotations

import fcntl
import json
import os
import resource
from collections.abc import Callable
from typing import Any

#: Where the second descriptor goes: above those that programs close to be on the safe side.
_HIGH = 1000
#: Exit status of a process that can no longer tell anything.
MUTE = 97
# Taken before foreign code runs, which may put something else in their place.
_encode = json.JSONEncoder(default=str).encode
_write, _getpid, _fstat, _exit = os.write, os.getpid, os.fstat, os._exit


class Channel:
    """Sends events, one line each: the kind, a blank, and JSON.

    Only the process that owns it writes: a test that forks and lets its child run on would tell everything twice.
    """

    def __init__(self, descriptor: int) -> None:
        """Take a socket that the referee has opened for us."""
        self.owner = _getpid()
        self._identity = _identity(descriptor)
        os.set_inheritable(descriptor, False)  # noqa: FBT003
        # Code under test closes descriptors that are not its own.
        self._descriptors = [descriptor, _copy(descriptor)]
        self._send: Callable[[bytes], None] = self._to_referee

    def redirect(self, send: Callable[[bytes], None]) -> None:
        """In a fork of the owner: from here on, give to ``send`` what is to be told."""
        self.owner, self._send = _getpid(), send

    def write(self, event: str, **fields: object) -> None:
        """Tell one event."""
        if _getpid() == self.owner:
            self._send(f"{event} {_json(fields)}\n".encode("ascii"))

    def forward(self, lines: bytes) -> None:
        """Tell what a fork has told us."""
        self._send(lines)

    def _to_referee(self, data: bytes) -> None:
        for descriptor in self._descriptors:
            if _identity(descriptor) == self._identity:
                _write_all(descriptor, data)
                return
        _exit(MUTE)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[_write(descriptor, view) :]
        except BlockingIOError:
            os.set_blocking(descriptor, True)


def _copy(descriptor: int) -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(descriptor, min(_HIGH, allowed - 8)))


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        status = _fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _json(fields: object) -> str:
    line = _encode(fields)
    if "\\ud" in line:  # halves of characters are no text for others
        line = _encode(_clean(json.loads(line)))
    return line


def _clean(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value
