"""How a command is confined: one function a level, which says how its launcher is started and what it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
#: Our own interpreter without its virtual environment: the launcher needs the standard library only.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
LAUNCH = (str(PYTHON), "-I", "-S", str(LAUNCHER), "{channel}", "--")
#: Replaced by the command's own temporary folder where it has a private view.
PRIVATE = "/tmp"  # noqa: S108 - private
SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".netrc", ".pypirc",
    ".git-credentials", ".npmrc",
)  # fmt: skip
#: Covered in a private view: sockets of services (a container engine's is as good as being root), and secrets.
HIDDEN = ("/run", *(f"~/{name}" for name in SECRETS))
#: Process ids the kernel does not give again once it has come to the end of them.
RESERVED_IDS = 300


@dataclass(frozen=True)
class FilesystemView:
    """What a command gets to see of the host."""

    #: Its own temporary folder.
    temporary: Path
    #: What it may write to.
    writable: tuple[Path, ...]
    #: What stays readable where it is below a folder that is replaced.
    readable: tuple[Path, ...]
    #: Whether it may reach more than its own loopback.
    network: bool
    #: Processes and threads.
    processes: int


@dataclass(frozen=True)
class LaunchPlan:
    """How the launcher is started."""

    argv: tuple[str, ...]
    #: What the launcher is to do, beside what it does at all levels.
    job: dict[str, object]
    #: The command's temporary folder as it sees it.
    temporary: str


def bubblewrap(view: FilesystemView) -> LaunchPlan:
    """See ``MEANING``; the private view is made by bubblewrap."""
    # --die-with-parent takes the thread that starts bubblewrap for its parent: the one that supervises, so it may.
    argv = ["bwrap", "--die-with-parent", "--cap-drop", "ALL"]
    argv += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not view.network:
        argv.append("--unshare-net")
    argv += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    covered = {
        path: ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)] for path in hidden()
    }
    for path, words in covered.items():
        argv += [] if path.is_relative_to(PRIVATE) else words
    argv += ["--bind", str(view.temporary), PRIVATE]
    for source, path, writable in mounts(view):
        argv += ["--bind" if writable else "--ro-bind", str(source), str(path)]
    for path, words in covered.items():
        argv += words if path.is_relative_to(PRIVATE) else []
    # Root is exempt from RLIMIT_NPROC; a process namespace around bubblewrap bounds its processes instead.
    around = _process_namespace(view) if os.getuid() == 0 else ()
    return LaunchPlan(argv=(*around, *argv, "--", *LAUNCH), job={}, temporary=PRIVATE)


def namespaces(view: FilesystemView) -> LaunchPlan:
    """See ``MEANING``; the private view is made by the launcher."""
    extra = ["--keep-caps", "--mount", "--ipc", "--uts", *([] if view.network else ["--net"])]
    job: dict[str, object] = {
        "view": {
            "temporary": str(view.temporary),
            "hidden": [str(path) for path in hidden()],
            "mounts": [(str(source), str(path), writable) for source, path, writable in mounts(view)],
        },
        "loopback": not view.network,
    }
    return LaunchPlan(argv=(*_process_namespace(view, *extra), *LAUNCH), job=job, temporary=PRIVATE)


def landlock(view: FilesystemView) -> LaunchPlan:
    """See ``MEANING``."""
    writable = [str(path) for path in (view.temporary, *view.writable)]
    rules = {"writable": writable, "network": view.network}
    return LaunchPlan(argv=LAUNCH, job={"reaper": True, "landlock": rules}, temporary=str(view.temporary))


def process_group(view: FilesystemView) -> LaunchPlan:
    """See ``MEANING``."""
    return LaunchPlan(argv=LAUNCH, job={"reaper": True}, temporary=str(view.temporary))


def _process_namespace(view: FilesystemView, *more: str) -> tuple[str, ...]:
    """What starts the following words as the first process of a namespace that ends with it."""
    unshare = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child")
    # Since Linux 6.14 each process namespace has a bound of its own.
    script = f'(echo {RESERVED_IDS + view.processes} > /proc/sys/kernel/pid_max) 2> /dev/null; exec "$@"'
    return (*unshare, "--mount-proc", *more, "--", "sh", "-c", script, "sh")


def hidden() -> list[Path]:
    """Paths to cover, as far as this host has them."""
    return [path for path in (Path(name).expanduser() for name in HIDDEN) if path.exists() and not path.is_symlink()]


def mounts(view: FilesystemView) -> list[tuple[Path, Path, bool]]:
    """What to put into the view again, outer folders first: source, path, whether it may be written to."""
    replaced = [Path("/tmp"), *hidden()]  # noqa: S108 - replaced by a private one
    chosen = dict.fromkeys(view.writable, True)
    for path in sorted(view.readable, key=lambda path: len(path.parts)):
        if any(path.is_relative_to(folder) and path != folder for folder in replaced) and not any(
            path.is_relative_to(other) for other in chosen
        ):
            chosen[path] = False
    return [(path.resolve(), path, chosen[path]) for path in sorted(chosen, key=lambda path: len(path.parts))]


#: Strongest first.
LEVELS: dict[str, Callable[[FilesystemView], LaunchPlan]] = {
    "bubblewrap": bubblewrap,
    "namespaces": namespaces,
    "landlock": landlock,
    "process-group": process_group,
}
_PRIVATE_VIEW = (
    "a read-only file system but for its workspace, no network but its own loopback, no view of other processes,"
    " secrets in the home folder covered"
)
#: What a command gets at each level, for a person.
MEANING = {
    "bubblewrap": _PRIVATE_VIEW,
    "namespaces": _PRIVATE_VIEW,
    "landlock": "no writing outside its workspace, no TCP connections to fixed ports; other files can be read and other"
    " processes seen",
    "process-group": "limits on time, memory and output only; it can write wherever the worker can",
}
#: What would give each level on a host that has it not.
REMEDY = {
    "bubblewrap": "install bubblewrap, and allow unprivileged user namespaces (in a container: its seccomp profile)",
    "namespaces": "install util-linux, and allow unprivileged user namespaces (in a container: its seccomp profile)",
    "landlock": "use Linux 6.2 or newer with Landlock among its security modules",
}
