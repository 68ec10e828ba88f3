"""Keeps what is called from reaching outside, beside the sandbox: the first thing denied drops the call.

Armed while foreign code runs. A denial is remembered, so that code which swallows it is found out, too.
"""

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
    "socket.",
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
        self._environment = dict(os.environ)

    def install(self) -> None:
        """Hook in, before the module under test is imported. Cannot be undone."""
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._alarm)
        for module, name in (
            (os, "_exit"),
            (os, "abort"),
            (signal, "signal"),
            (signal, "setitimer"),
            (signal, "alarm"),
        ):
            self._forbid(module, name)
        sleep = time.sleep
        time.sleep = lambda seconds: sleep(seconds) if seconds <= _MAX_SLEEP_S else self._deny("time.sleep")

    def _forbid(self, module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)
        setattr(module, f"_tta_{name}", real)

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
        elif event.startswith(_DENIED):
            self._deny(event)
        elif event.startswith(_WRITES) and not all(self._inside(path) for path in args[:1]):
            self._deny(event)

    def _audit_open(self, path: Any, mode: Any, flags: Any) -> None:
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITE_FLAGS)
        if writes and not self._inside(path):
            self._deny("open for writing")

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return isinstance(path, int)
        return os.path.realpath(os.fsdecode(path)).startswith(f"{self.folder}{os.sep}")

    @contextmanager
    def watch(self, seconds: float) -> Iterator[io.StringIO]:
        """Arm for one call that may take ``seconds``; yields what it prints. Puts the process back afterwards."""
        self.tripped, self._thread = "", threading.get_ident()
        streams = sys.stdin, sys.stdout, sys.stderr
        printed = _Bounded()
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), printed, _Bounded()
        set_timer: Callable[..., object] = signal._tta_setitimer  # type: ignore[attr-defined]
        set_timer(signal.ITIMER_REAL, seconds, 0.05)
        self._armed = True
        try:
            yield printed
        finally:
            self._armed = False
            set_timer(signal.ITIMER_REAL, 0)
            sys.stdin, sys.stdout, sys.stderr = streams
            self._restore_environment()

    def _restore_environment(self) -> None:
        if dict(os.environ) != self._environment:
            self.tripped = self.tripped or "changes the environment"
            os.environ.clear()
            os.environ.update(self._environment)


class _Bounded(io.StringIO):
    """A text stream that keeps the first 10 000 characters."""

    def write(self, text: str) -> int:
        if self.tell() < 10_000:
            super().write(text[:10_000])
        return len(text)
