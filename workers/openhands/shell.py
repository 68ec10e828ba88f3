"""Where an agent's commands run: the worker's sandbox, without network, with little to write to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tta_tasks.errors import SandboxError
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Completed, Limits, Sandbox

#: Levels of the sandbox that hide the host's processes and keep the network away.
CONFINING = frozenset({"bubblewrap", "namespaces"})
#: Seconds a command gets unless the agent asks for more, and at most.
USUAL_S, MOST_S = 120.0, 600.0
#: Bytes of output that go back to the agent, of each stream.
SHOWN_BYTES = 24 << 10
#: Goes on where the command before left off: its folder and the variables it exported. ``$1`` is where that is noted.
SESSION_SCRIPT = """
exec 2>&1
note=$1 command=$2
trap 'code=$?; pwd > "$note/folder"; export -p > "$note/variables"; exit $code' EXIT
[ -f "$note/variables" ] && . "$note/variables" 2> /dev/null
[ -f "$note/folder" ] && cd -- "$(cat "$note/folder")" 2> /dev/null
eval "$command"
"""


def why_unsafe(sandbox: Sandbox, *, unconfined: bool) -> str:
    """Why agents must not run commands in ``sandbox``, or an empty string."""
    if sandbox.level in CONFINING or unconfined:
        return ""
    return (
        f"the sandbox is only {sandbox.level!r} here, so an agent's commands could read other processes' secrets and"
        " use the network; allow unprivileged user namespaces (`tta doctor` says how), or, on a host that holds nothing"
        " else, set TTA_AGENTS_UNCONFINED=true"
    )


def check_places(tree: Path, places: Iterable[Path]) -> None:
    """See that what is about to be opened for writing is still in the agent's tree, where it was.

    Raises:
        SandboxError: A command has put something else in its place, such as a link that leads elsewhere.
    """
    door = ForeignTree(tree)
    for place in places:
        if not door.is_folder(place) and not door.is_file(place):
            raise SandboxError(f"{place.relative_to(tree)} in the agent's tree is no file or folder any more.")


@dataclass
class Shell:
    """Runs an agent's commands, one after the other."""

    sandbox: Sandbox
    #: The agent's copy of the tree, and the project's folder in it: where the first command starts.
    tree: Path
    project: Path
    #: What may be written to.
    writable: Sequence[Path]
    #: Where the shell notes its folder and variables from one command to the next.
    notes: Path
    #: The component's interpreter.
    python: Path
    env: Mapping[str, str]
    limits: Limits
    #: What the interpreter needs to read.
    readable: Sequence[Path] = ()
    cancelled: Callable[[], bool] = field(default=lambda: False)

    def run(self, command: str, timeout_s: float | None = None) -> Completed:
        """Run ``command`` in a shell to its end; nothing of it survives.

        Raises:
            SandboxError: The shell cannot be started.
        """
        check_places(self.tree, self.writable)
        wall_s = min(timeout_s or USUAL_S, MOST_S)
        environment = self.python.parent.parent
        return self.sandbox.run(
            ["bash", "--noprofile", "--norc", "-c", SESSION_SCRIPT, "bash", str(self.notes), command],
            cwd=self.project,
            writable=[*self.writable, self.notes],
            readable=[self.tree, *self.readable],
            env={
                **self.env,
                "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
                "VIRTUAL_ENV": str(environment),
                "TERM": "dumb",
                "PAGER": "cat",
                "GIT_PAGER": "cat",
                "PIP_NO_INDEX": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            limits=replace(self.limits, wall_s=wall_s, output_bytes=SHOWN_BYTES),
            cancelled=self.cancelled,
        )

    def reset(self) -> None:
        """Forget the shell's folder and variables."""
        for note in ("folder", "variables"):
            ForeignTree(self.notes).remove(note)

    def answer(self, command: str, timeout_s: float | None) -> dict[str, object]:
        """What the agent is told of a command."""
        try:
            done = self.run(command, timeout_s)
        except SandboxError as error:
            return {"output": error.message, "exit_code": 126, "timed_out": False}
        output = done.stdout
        if done.stopped:
            why = "it took too long" if done.stopped == "time" else "cancelled"
            output += f"\n[Ended after {done.duration_s:.0f} s: {why}]"
        return {"output": output or "[no output]", "exit_code": done.returncode, "timed_out": done.stopped == "time"}
