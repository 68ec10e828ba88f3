"""The sandbox: what a command is given, at which level, and what came of it."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from tta_tasks.errors import SandboxError
from tta_tasks.protocols import Completed, Limits
from workers.sandbox import groups, tempdirs
from workers.sandbox.advice import SYSTEM_PATH, stronger
from workers.sandbox.levels import LEVELS, MEANING, PRIVATE_LEVELS, Confinement
from workers.sandbox.supervisor import Supervisor, Tail
from workers.sandbox.view import absolute, look

DEFAULT_LIMITS = Limits()


@cache
def detect_sandbox() -> ProcessSandbox:
    """The strongest sandbox this host can give, found by trying; the same one for the life of the process.

    Raises:
        SandboxError: Not even the weakest works.
    """
    reap()
    refused: dict[str, str] = {}
    for level in LEVELS:
        sandbox = ProcessSandbox(level, refused)
        if not (reason := sandbox.missing()):
            return sandbox
        refused[level] = reason
    raise SandboxError(f"No command can be run on this host: {refused['process-group']}")


def reap() -> int:
    """Remove the temporary folders of commands whose process here has died; answer how many.

    Raises:
        SandboxError: There is no place for such folders.
    """
    return tempdirs.reap(tempdirs.private("tta-sandbox"))


class ProcessSandbox:
    """A :class:`~tta_tasks.protocols.Sandbox` of supervised processes.

    Args:
        level: One of :data:`~workers.sandbox.levels.LEVELS`.
        refused: Stronger levels that this host cannot give, and why.
    """

    def __init__(self, level: str, refused: Mapping[str, str] | None = None) -> None:
        self.level = level
        self._confine = LEVELS[level]
        self._refused = dict(refused or {})

    def missing(self) -> str:
        """Why this level cannot be had on this host, or an empty string."""
        if self.level != "process-group" and sys.platform != "linux":
            return "it needs Linux"
        try:
            probe = self.run(["true"], cwd=Path("/"), limits=Limits(wall_s=20))
        except SandboxError as error:
            return error.message
        return "" if probe.ok else f"`true` ended with status {probe.returncode}"

    def describe(self) -> str:
        """For a person: what the level means, and how to get a stronger one."""
        lines = [f"{self.level}: {MEANING[self.level]}."]
        if self.level not in PRIVATE_LEVELS:
            lines.append(f"{stronger()}.")
            lines += [f"({level}: {why})" for level, why in self._refused.items()]
        return "\n".join(lines)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path,
        writable: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        stdin: str | None = None,
        network: bool = False,
        cancelled: Callable[[], bool] | None = None,
        output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """See :meth:`tta_tasks.protocols.Sandbox.run`."""
        if absent := [path for path in (cwd, *writable) if not path.exists()]:
            raise SandboxError(f"The sandbox is to open {absent[0]} to a command, but there is no such path.")
        command = tuple(map(str, argv))
        started = time.monotonic()
        with tempdirs.create(tempdirs.private("tta-sandbox")) as temporary, groups.command_group(limits) as group:
            view = look(command[0], cwd, writable=writable, readable=readable, network=network)
            given = Confinement(temporary, view, network, limits.processes, limits.memory_bytes)
            plan = self._confine(given)
            job = {
                **plan.job,
                "cwd": absolute(cwd),
                "env": _environment(command[0], plan.temporary) | dict(env or {}),
                "rlimits": _rlimits(limits),
                "grace_s": limits.grace_s,
                **({"group": group.entry} if group else {}),
            }
            launch = (*plan.argv, *command)
            tails = Tail(limits.output_bytes, output), Tail(limits.output_bytes, output)
            with Supervisor(
                launch,
                env={"PATH": SYSTEM_PATH},
                job=job,
                stdin=stdin or "",
                tails=tails,
                descriptors=[group.entry] if group else [],
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


def _environment(program: str, temporary: str) -> dict[str, str]:
    """The scrubbed environment; the programs beside the command's own come first."""
    beside = str(Path(program).parent)
    path = SYSTEM_PATH if beside in {".", *SYSTEM_PATH.split(":")} else f"{beside}:{SYSTEM_PATH}"
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": temporary, "TMPDIR": temporary}


def _rlimits(limits: Limits) -> dict[str, int]:
    bounds = {"RLIMIT_FSIZE": limits.file_bytes, "RLIMIT_CORE": 0}
    if limits.cpu_s is not None:
        bounds["RLIMIT_CPU"] = limits.cpu_s
    if sys.platform == "linux":  # macOS refuses the one, and cannot tell how many there are already for the other
        bounds |= {"RLIMIT_AS": limits.memory_bytes, "RLIMIT_NPROC": _own_threads() + limits.processes}
    return {name: bound for name, bound in bounds.items() if hasattr(resource, name)}


def _own_threads() -> int:
    """Processes and threads of this user, which the kernel counts together."""
    count = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it may have ended meanwhile
            if process.name.isdigit() and process.stat().st_uid == os.getuid():
                count += sum(1 for _ in (process / "task").iterdir())
    return count
