"""Child processes that do not outlive their parent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tta_tasks import folders

#: A log above this is begun anew when its process is started again; the previous one is kept beside it.
LOG_BYTES = 8 << 20


@dataclass(frozen=True)
class Child:
    """A process in a session of its own, that ends with its parent where the system can promise that (Linux)."""

    process: subprocess.Popen[str]

    @classmethod
    def start(
        cls, argv: Sequence[str], *, log: Path, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> Self:
        """Start ``argv``; what it prints is appended to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".1.log"))
        tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with folders.opened(log, "ab") as output:
            process = subprocess.Popen(
                [*tether, *argv],
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                start_new_session=True,
                text=True,
            )
        if stdin is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it ended already; whoever waits for it will see
                process.stdin.write(stdin)
                process.stdin.close()
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self, *, how: signal.Signals = signal.SIGTERM, grace_s: float) -> None:
        """Ask it to end with ``how``; end its whole group after ``grace_s`` seconds."""
        if self.alive:
            self.process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, or an empty string."""
    try:
        with folders.opened(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
