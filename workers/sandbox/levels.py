"""How a command is confined: one function a level, which says how its launcher is started and what it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox.view import PYTHON, View, without

#: As a module, whose bytecode is kept, and not as a script.
START = "import sys; sys.path.append(sys.argv[1]); import launcher; launcher.main()"
LAUNCH = (str(PYTHON), "-I", "-S", "-c", START, str(Path(__file__).parent), "{channel}", "--")
BUBBLEWRAP = "bwrap"
#: Replaced by the command's own temporary folder where it has a private view.
PRIVATE = "/tmp"  # noqa: S108 - private
#: Process ids the kernel does not give again once it has come to the end of them.
RESERVED_IDS = 300
#: Most bytes of shared memory where the command has its own, and of a file system for mount points alone.
SHARED_BYTES, SMALL_BYTES = 1 << 30, 1 << 20


@dataclass(frozen=True)
class Confinement:
    """What one command is confined to."""

    #: Its own temporary folder.
    temporary: Path
    #: What it sees.
    view: View
    #: Whether it may reach more than its own loopback.
    network: bool
    #: Processes and threads.
    processes: int
    #: Bytes of address space of each process.
    memory_bytes: int

    @property
    def shared_bytes(self) -> int:
        """Most bytes of its shared memory."""
        return min(self.memory_bytes, SHARED_BYTES)


@dataclass(frozen=True)
class LaunchPlan:
    """How the launcher is started."""

    argv: tuple[str, ...]
    #: What the launcher is to do, beside what it does at all levels.
    job: dict[str, object]
    #: The command's temporary folder as it sees it.
    temporary: str


def namespaces(given: Confinement) -> LaunchPlan:
    """See ``MEANING``; the private view is made by the launcher."""
    extra = ["--keep-caps", "--mount", "--ipc", "--uts", *([] if given.network else ["--net"])]
    job: dict[str, object] = {
        "view": {
            "temporary": str(given.temporary),
            "links": list(given.view.links.items()),
            "mounts": [(mount.path, mount.writable) for mount in given.view.mounts],
            "covered": list(given.view.covered),
            "shared_bytes": given.shared_bytes,
        },
        "loopback": not given.network,
        "strict": True,
    }
    return LaunchPlan(argv=(*_process_namespace(given, *extra), *LAUNCH), job=job, temporary=PRIVATE)


def bubblewrap(given: Confinement) -> LaunchPlan:
    """See ``MEANING``; the private view is made by bubblewrap, which starts from an empty root, too."""
    # --die-with-parent takes the thread that starts bubblewrap for its parent: the one that supervises, so it may.
    argv = [BUBBLEWRAP, "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
    argv += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not given.network:
        argv.append("--unshare-net")
    steps = {path: ["--symlink", target, path] for path, target in given.view.links.items()}
    for mount in given.view.mounts:
        steps[mount.path] = ["--bind" if mount.writable else "--ro-bind", mount.path, mount.path]
    steps[PRIVATE] = ["--bind", str(given.temporary), PRIVATE]
    sealed = ["/dev", "/"]
    for path in given.view.covered:
        if Path(path).is_dir():
            steps[path] = ["--size", str(SMALL_BYTES), "--tmpfs", path]
            sealed.insert(0, path)
        else:
            steps[path] = ["--ro-bind", "/dev/null", path]
    for path in sorted(steps, key=lambda path: path.count("/")):
        # A link below a folder that is there has come with it.
        if steps[path][0] != "--symlink" or not any(path.startswith(f"{mount.path}/") for mount in given.view.mounts):
            argv += steps[path]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    argv += ["--perms", "1777", "--size", str(given.shared_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108 - private
    for folder in sealed:
        argv += ["--remount-ro", folder]
    # Root is exempt from RLIMIT_NPROC; a process namespace around bubblewrap bounds its processes instead.
    around = _process_namespace(given) if os.getuid() == 0 else ()
    return LaunchPlan(argv=(*around, *argv, "--", *LAUNCH), job={"strict": True}, temporary=PRIVATE)


def landlock(given: Confinement) -> LaunchPlan:
    """See ``MEANING``."""
    mounts = list(without(given.view))
    rules = {
        "readable": [mount.path for mount in mounts if not mount.writable],
        "writable": [str(given.temporary), *(mount.path for mount in mounts if mount.writable)],
        "network": given.network,
    }
    job = {"landlock": rules, "strict": True, **_outside(given)}
    return LaunchPlan(argv=LAUNCH, job=job, temporary=str(given.temporary))


def process_group(given: Confinement) -> LaunchPlan:
    """See ``MEANING``."""
    return LaunchPlan(argv=LAUNCH, job={"strict": False, **_outside(given)}, temporary=str(given.temporary))


def _outside(given: Confinement) -> dict[str, object]:
    """What the launcher does where its command is among the host's other processes."""
    bound = {"processes": given.processes} if sys.platform == "linux" and os.getuid() == 0 else {}
    return {"reaper": True, "protected": [os.getpid()], **bound}


def _process_namespace(given: Confinement, *more: str) -> tuple[str, ...]:
    """What starts the following words as the first process of a namespace that ends with it."""
    unshare = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child")
    # Since Linux 6.14 each process namespace has a bound of its own.
    script = f'(echo {RESERVED_IDS + given.processes} > /proc/sys/kernel/pid_max) 2> /dev/null; exec "$@"'
    return (*unshare, "--mount-proc", *more, "--", "sh", "-c", script, "sh")


#: Strongest first.
LEVELS: dict[str, Callable[[Confinement], LaunchPlan]] = {
    "namespaces": namespaces,
    "bubblewrap": bubblewrap,
    "landlock": landlock,
    "process-group": process_group,
}
#: Those that give a command a view of its own.
PRIVATE_LEVELS = ("namespaces", "bubblewrap")
_PRIVATE_VIEW = (
    "a command sees the system's programs, its workspace and what you list, and no other file, process or network; it"
    " writes to its workspace only"
)
#: What a command gets at each level, for a person.
MEANING = {
    "namespaces": _PRIVATE_VIEW,
    "bubblewrap": _PRIVATE_VIEW,
    "landlock": "a command opens no file but the system's programs, its workspace and what you list, and no TCP"
    " connection to a fixed port; it sees other processes, and reaches Unix sockets whose path it knows",
    "process-group": "a command's time, memory, output and processes are bounded, and that is all: it reads and writes"
    " what the worker can, and uses the network",
}
