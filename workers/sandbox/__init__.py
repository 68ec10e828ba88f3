"""The one door for code that is not ours: a component's tests, generated code, engines, agents, build steps."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from tta_tasks.errors import SandboxError
from tta_tasks.protocols import Completed, Limits, Sandbox
from workers import scratch
from workers.sandbox.levels import LAUNCHER, LEVELS, PYTHON, View
from workers.sandbox.supervisor import Supervisor

__all__ = ["ProcessSandbox", "detect_sandbox"]

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@cache
def detect_sandbox() -> Sandbox:
    """The strongest sandbox this host can give, found by trying; the same one for the life of the process."""
    scratch.reap(_folders())
    for level in LEVELS:
        sandbox = ProcessSandbox(level)
        if not sandbox.missing():
            return sandbox
    raise SandboxError("No process can be started on this host.")


class ProcessSandbox:
    """A :class:`~tta_tasks.protocols.Sandbox` of supervised processes.

    Args:
        level: One of :data:`~workers.sandbox.levels.LEVELS`.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self._confine = LEVELS[level]

    def missing(self) -> str:
        """Why this level cannot be had on this host, or an empty string."""
        try:
            probe = self.run(["true"], cwd=Path("/"), limits=Limits(wall_s=20))
        except SandboxError as error:
            return error.message
        return "" if probe.ok else f"`true` ended with status {probe.returncode}"

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path,
        writable: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits = Limits(),
        stdin: str | None = None,
        network: bool = False,
        cancelled: Callable[[], bool] | None = None,
    ) -> Completed:
        """See :meth:`tta_tasks.protocols.Sandbox.run`."""
        command = tuple(map(str, argv))
        started = time.monotonic()
        with scratch.folder(_folders()) as temporary:
            view = View(
                temporary=temporary,
                writable=tuple(Path(os.path.abspath(path)) for path in writable),
                readable=tuple(_named(command, cwd, env or {})),
                network=network,
            )
            plan = self._confine(view)
            with Supervisor(
                (*plan.argv, *command),
                env=_environment(command[0], plan.temporary) | dict(env or {}),
                job={**plan.job, "cwd": os.path.abspath(cwd), "rlimits": _rlimits(limits)},
                stdin=stdin or "",
                keep=limits.output_bytes,
            ) as supervisor:
                stopped = supervisor.watch(limits.wall_s, cancelled)
            return Completed(
                argv=command,
                returncode=supervisor.returncode(stopped),
                stdout=str(supervisor.stdout),
                stderr=str(supervisor.stderr),
                duration_s=time.monotonic() - started,
                stopped=stopped,
            )


def _folders() -> Path:
    return Path(tempfile.gettempdir()).resolve() / f"tta-sandbox-{os.getuid()}"


def _virtual_environment(program: str) -> Path | None:
    folder = Path(os.path.abspath(program)).parent.parent
    return folder if (folder / "pyvenv.cfg").is_file() else None


def _environment(program: str, temporary: str) -> dict[str, str]:
    """The scrubbed environment."""
    folder = _virtual_environment(program)
    path = f"{folder / 'bin'}:{SYSTEM_PATH}" if folder else SYSTEM_PATH
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": temporary, "TMPDIR": temporary}


def _named(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> set[Path]:
    """The paths a command is told of; they stay where they are, whatever is private around them."""
    words = [*command, *(part for value in env.values() for part in value.split(os.pathsep))]
    named = {Path(os.path.normpath(word)) for word in words if word.startswith("/") and "\0" not in word}
    named |= {Path(os.path.abspath(cwd)), LAUNCHER.parent, PYTHON, Path(sys.base_prefix)}
    if folder := _virtual_environment(command[0]):
        named |= {folder, *(path.resolve() for path in (folder / "bin").glob("python*"))}
    return {path for path in named if path.exists()}


def _rlimits(limits: Limits) -> dict[str, int]:
    bounds = {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": limits.processes,
    }
    if limits.cpu_s is not None:
        bounds["RLIMIT_CPU"] = limits.cpu_s
    return {name: bound for name, bound in bounds.items() if hasattr(resource, name)}
