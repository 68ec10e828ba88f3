"""What tests of the sandbox share: the levels of this host, and ways to look at what a command left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tta_tasks.protocols import Completed, Limits, Sandbox
from workers.sandbox import LEVELS, ProcessSandbox, levels

#: A bubblewrap that is not on PATH may be named, to have its level tested, too.
levels.BUBBLEWRAP = os.environ.get("BUBBLEWRAP", levels.BUBBLEWRAP)
AVAILABLE = [level for level in LEVELS if not ProcessSandbox(level).missing()]
#: Those that promise a view of the host of the command's own.
PRIVATE = [level for level in AVAILABLE if level in {"bubblewrap", "namespaces"}]
#: Those that promise that nothing is read or written outside.
CONFINING = [level for level in AVAILABLE if level != "process-group"]
#: Those whose commands are among the host's other processes.
AMONG_OTHERS = [level for level in AVAILABLE if level not in PRIVATE]


def python(
    sandbox: Sandbox, program: str, *arguments: str | Path, cwd: Path, limits: Limits | None = None
) -> Completed:
    """Run a program that may write below ``cwd``."""
    return sandbox.run([sys.executable, "-c", program, *arguments], cwd=cwd, writable=[cwd], limits=limits or Limits())


def processes(marker: Path) -> list[int]:
    """Processes of this host whose command line names ``marker``."""
    found = []
    for line in subprocess.run(
        ["/bin/ps", "-eo", "pid=,args=", "-ww"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if str(marker) in command:
            found.append(int(pid))
    return found


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether ``holds`` becomes true, given far more time than it needs."""
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()
