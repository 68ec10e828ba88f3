"""Keeps what is called from reaching outside, beside the sandbox: the first thing denied drops the call.

Armed while foreign code runs. A denial is remembered, so that code which swallows it is found out, too.
"""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DENIED = (
    "socket.connect",
    "socket.bind",
    "socket.get",
    "socket.send",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
    "os.putenv",
    "os.unsetenv",
    "os.chdir",
    "os.startfile",
    "ctypes.",
    "webbrowser.",
    "sys.settrace",
    "sys.setprofile",
    "signal.pthread_kill",
    "_thread.start",
    "builtins.input",
    "syslog.",
    "pty.",
    "smtplib.",
    "urllib.",
    "http.",
    "ftplib.",
    "telnetlib.",
)
_WRITES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.utime",
    "os.setxattr",
    "shutil.",
    "tempfile.",
)
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: The longest a call may sleep.
_MAX_SLEEP_S = 0.02
_MAX_PRINTED = 10_000


class Denied(BaseException):
    """The call tried to reach outside."""


class TooSlow(BaseException):
    """The call took longer than it may."""


class Guard:
    """One per process; ``folder`` is the only place that may be written to.

    Attributes:
        tripped: Why the current call is not worth keeping, or an empty string.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tripped = ""
        self._armed = False
        self._thread = threading.get_ident()
        self._set_timer = signal.setitimer
        #: Ends the process at once: ``os._exit`` as it was before it was guarded.
        self.leave = os._exit

    def install(self) -> None:
        """Hook in, before the module under test is imported. Cannot be undone."""
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._alarm)
        # asyncio sets a handler of its own only where it finds Python's.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for module, name in (
            (os, "_exit"),
            (os, "abort"),
            (signal, "signal"),
            (signal, "setitimer"),
            (signal, "alarm"),
        ):
            self._forbid(module, name)
        sleep = time.sleep

        def short_sleep(seconds: float) -> None:
            if self._armed and seconds > _MAX_SLEEP_S:
                self._deny("time.sleep")
            sleep(seconds)

        time.sleep = short_sleep  # type: ignore[assignment]

    def _forbid(self, module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self._armed:
                self._deny(f"{module.__name__}.{name}")
            return real(*args, **kwargs)

        setattr(module, name, guarded)

    def _deny(self, what: str) -> None:
        self.tripped = self.tripped or f"denied {what}"
        raise Denied(what)

    def _alarm(self, _signal: int, _frame: Any) -> None:
        if self._armed:
            self.tripped = "too slow"
            raise TooSlow

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed or threading.get_ident() != self._thread:
            return
        if event == "open":
            self._audit_open(*args)
        elif event.startswith(_DENIED) or (
            event.startswith(_WRITES) and not all(self._inside(path) for path in args[:1])
        ):
            self._deny(event)

    def _audit_open(self, path: Any, mode: Any, flags: Any) -> None:
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITE_FLAGS)
        if writes and not self._inside(path):
            self._deny("open for writing")

    def _inside(self, path: Any = None) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return isinstance(path, int)
        return os.path.realpath(os.fsdecode(path)).startswith(f"{self.folder}{os.sep}")

    @contextmanager
    def watch(self, seconds: float) -> Iterator[Printed]:
        """Arm for one call that may take ``seconds``; yields what it prints. Puts the process back afterwards."""
        self.tripped = ""
        streams = sys.stdin, sys.stdout, sys.stderr
        printed = Printed()
        sys.stdin, sys.stdout, sys.stderr = _NoInput(), printed, Printed()
        self._set_timer(signal.ITIMER_REAL, seconds, 0.05)
        self._armed = True
        try:
            yield printed
        finally:
            self._armed = False
            self._set_timer(signal.ITIMER_REAL, 0)
            sys.stdin, sys.stdout, sys.stderr = streams


class Printed(io.TextIOWrapper):
    """Standard output as pytest's ``capsys`` gives it, of which the first part is kept."""

    def __init__(self) -> None:
        super().__init__(_BoundedBuffer(), encoding="utf-8", newline="", write_through=True)

    def getvalue(self) -> str:
        """What was printed."""
        return self._bytes().getvalue().decode("utf-8", "replace")

    def clear(self) -> None:
        """Forget it."""
        self._bytes().seek(0)
        self._bytes().truncate()

    def _bytes(self) -> io.BytesIO:
        if not isinstance(self.buffer, io.BytesIO):
            raise TypeError("the call has taken standard output away")
        return self.buffer


class _BoundedBuffer(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() < _MAX_PRINTED:
            super().write(bytes(data)[:_MAX_PRINTED])
        return len(data)

    def close(self) -> None:
        """Stay open: what was printed is read after the call."""


class _NoInput(io.TextIOBase):
    """Standard input as it is under pytest: reading it is an error."""

    @property
    def buffer(self) -> Any:
        """Itself, as pytest has it."""
        return self

    def read(self, _size: int | None = -1) -> str:
        """Refuse.

        Raises:
            OSError: Always.
        """
        raise OSError("reading from stdin while output is captured")

    readline = readlines = __next__ = read  # type: ignore[assignment]

    def fileno(self) -> int:
        """Refuse.

        Raises:
            io.UnsupportedOperation: Always.
        """
        raise io.UnsupportedOperation("stdin has no fileno")
