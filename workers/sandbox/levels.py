"""How a command is confined: one function a level, each of which says how its launcher is started and what it is told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.errors import SandboxError

LAUNCHER = Path(__file__).with_name("launcher.py")
#: Our own interpreter without its virtual environment: the launcher needs the standard library only.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
#: Covered by an empty folder where there is a private view of the file system: sockets of services, and secrets.
HIDDEN = ("/run", *(f"~/{name}" for name in (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud",
                                             ".config/gh", ".netrc", ".pypirc", ".git-credentials", ".npmrc")))  # fmt: skip


@dataclass(frozen=True)
class View:
    """What a command gets to see of the host."""

    #: Its own temporary folder.
    temporary: Path
    #: What it may write to.
    writable: tuple[Path, ...]
    #: What stays readable where it is below a folder that is replaced.
    readable: tuple[Path, ...]
    #: Whether it may reach more than its own loopback.
    network: bool


@dataclass(frozen=True)
class Plan:
    """How the launcher is started."""

    argv: tuple[str, ...]
    #: What the launcher is to do, beside what all levels do.
    job: dict[str, object]
    #: The command's temporary folder as it sees it.
    temporary: str


def _launch() -> tuple[str, ...]:
    return (str(PYTHON), "-I", "-S", str(LAUNCHER), "{channel}", "--")


def process_group(view: View) -> Plan:
    """Limits and an end in common, nothing more; runs anywhere."""
    return Plan(argv=_launch(), job={}, temporary=str(view.temporary))


def bubblewrap(view: View) -> Plan:
    """A read-only file system, and processes, network and temporary folder of its own."""
    bwrap = shutil.which("bwrap") or "bwrap"
    argv = [bwrap, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not view.network:
        argv.append("--unshare-net")
    argv += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for path in hidden():
        argv += ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]
    argv += ["--bind", str(view.temporary), "/tmp"]  # noqa: S108 - this is what makes it private
    for source, path, writable in mounts(view):
        argv += ["--bind" if writable else "--ro-bind", str(source), str(path)]
    return Plan(argv=(*argv, "--", *_launch()), job={}, temporary="/tmp")  # noqa: S108 - private


def hidden() -> list[Path]:
    """Paths to cover, as far as this host has them."""
    return [path for path in (Path(name).expanduser() for name in HIDDEN) if path.exists() and not path.is_symlink()]


def mounts(view: View) -> list[tuple[Path, Path, bool]]:
    """What to put into the view again, outer folders first: source, path, whether it may be written to."""
    if absent := [path for path in view.writable if not path.exists()]:
        raise SandboxError(f"{absent[0]} cannot be made writable in the sandbox: it does not exist.")
    replaced = [Path("/tmp"), *hidden()]  # noqa: S108 - replaced by a private one
    chosen = dict.fromkeys(view.writable, True)
    for path in sorted(view.readable, key=lambda path: len(path.parts)):
        if any(path.is_relative_to(folder) and path != folder for folder in replaced) and not any(
            path.is_relative_to(other) for other in chosen
        ):
            chosen[path] = False
    return [(path.resolve(), path, chosen[path]) for path in sorted(chosen, key=lambda path: len(path.parts))]


#: Strongest first.
LEVELS: dict[str, Callable[[View], Plan]] = {"bubblewrap": bubblewrap, "process-group": process_group}
