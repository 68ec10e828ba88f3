"""The first process inside the sandbox: confines itself, starts the command, reports its end, and ends its tree.

Run by our own interpreter, standard library only, as ``START`` in :mod:`workers.sandbox.levels` says: the words of its
command line are this folder, ``FD``, ``--``, and the command's. ``FD`` is one end of a socket pair. The supervisor
sends a job: a mapping as :mod:`marshal` writes it, after its length in 8 bytes. The launcher answers in lines:
``started PID``, then ``error WHY`` if there is no command, or ``status NUMBER``, negative: a signal. The supervisor's
end is also the lifeline: once it is closed, by will or because the supervisor died, all is ended.

One runs with each command, so it imports little: what the larger modules of the library take to load, such as ``json``,
``signal`` and ``typing``, is more than all of this takes to run.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

#: Longest wait, in seconds, for killed processes to vanish.
REAPING_S = 10.0
#: How often processes are counted where the kernel does not bound them, in seconds.
COUNT_S = 0.1
#: Bytes of an answer.
MAX_REASON = 1000


def main() -> None:
    """Do the job and leave."""
    channel, command = int(sys.argv[2]), sys.argv[4:]
    os.set_inheritable(channel, False)  # noqa: FBT003 - its only way
    try:
        size = int.from_bytes(_read(channel, 8), "big")
        job: dict[str, Any] = marshal.loads(_read(channel, size))  # noqa: S302 - from our own supervisor
    except EOFError:  # the supervisor died before it could say a word
        return
    wakeup = _wake_on_child()
    try:
        _confine(job)
    except OSError as error:
        _say(channel, "error", f"the sandbox cannot be set up: {error}")
        return
    os.set_blocking(channel, False)
    counted = _Bound(job["processes"]) if "processes" in job else None
    child = os.fork()
    if not child:
        _become(command, job, channel)
    _let_go_of_standard_streams()
    if not _await_end(child, channel, wakeup, counted) and job["grace_s"] and not (counted and counted.broken):
        _ask_to_end(child, wakeup, job["grace_s"])
    if job.get("reaper"):
        _end_tree(child)


def _read(channel: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(channel, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class _Bound:
    """Counts a command's processes where no limit of the kernel binds them: those of root."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._before = self._everywhere()
        self.broken = False

    def check(self) -> bool:
        """Answer whether there are too many."""
        # One number of the whole host; only if that has grown so much does it pay to look at each.
        if self._everywhere() - self._before > self._most:
            self.broken = sum(map(_threads, _descendants())) > self._most
        return self.broken

    @staticmethod
    def _everywhere() -> int:
        with open("/proc/loadavg") as load:
            return int(load.read().split()[3].partition("/")[2])


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # it has ended
        return 0


def _await_end(child: int, channel: int, wakeup: int, counted: _Bound | None) -> bool:
    """Wait until the command has ended, or is to be ended; answer whether it has."""
    while True:
        ready, _, _ = select.select([channel, wakeup], [], [], COUNT_S if counted else None)
        if counted and counted.check():
            return False
        if channel in ready and not _still_there(channel):
            return False
        if wakeup in ready:
            os.read(wakeup, 4096)
        for pid, status in _reaped():
            if pid == child:
                _say(channel, "status", str(os.waitstatus_to_exitcode(status)))
                return True


def _ask_to_end(child: int, wakeup: int, grace_s: float) -> None:
    """Let the command end by itself, for as long as it was granted."""
    deadline = time.monotonic() + grace_s
    _signal(child, signal.SIGTERM, group=True)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([wakeup], [], [], left)[0]:
            os.read(wakeup, 4096)
        if any(pid == child for pid, _ in list(_reaped())):
            return


def _module(name: str) -> ModuleType:
    """One of our own, from this folder, where it is needed only: ``ctypes`` takes its time to load."""
    return __import__(name)


def _confine(job: dict[str, Any]) -> None:
    """What is done once, by the launcher, for all that follows."""
    if "group" in job:
        os.write(job["group"], b"0")
        os.close(job["group"])
    if sys.platform != "linux":
        return
    kernel = _module("kernel")
    _module("syscalls")  # its file is out of sight soon
    if "view" in job:
        job["segments"] = kernel.bound_segments(job["view"]["shared_bytes"])
        kernel.build_view(**job["view"])
    if job.get("loopback"):
        kernel.raise_loopback()
    if job.get("reaper"):
        kernel.become_subreaper()
    # What it hears and answers is not the command's business.
    kernel.refuse_inspection()


def _become(command: list[str], job: dict[str, Any], channel: int) -> None:
    """Turn this process into the command."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.setsid()
        os.chdir(job["cwd"])
        if sys.platform == "linux":
            _module("kernel").drop_privileges()
        if "landlock" in job:
            _module("kernel").restrict_reach(**job["landlock"])
        for name, bound in job["rlimits"].items():
            _limit(getattr(resource, name), bound)
        if sys.platform == "linux":
            _refuse_calls(job)
        # Said by the command-to-be itself: the first thing it does may be to end us.
        _say(channel, "started", str(os.getpid()))
        os.execvpe(command[0], command, job["env"])  # noqa: S606 - no shell, on purpose
    except (OSError, ValueError) as error:
        _say(channel, "error", f"{getattr(error, 'strerror', None) or error}: {command[0]}")
    finally:
        os._exit(127)


def _refuse_calls(job: dict[str, Any]) -> None:
    protected = {os.getppid(), *job.get("protected", ())}
    everyone, segments = bool(job.get("reaper")), not job.get("segments", False)
    try:
        _module("syscalls").refuse(protected, everyone=everyone, segments=segments)
    except OSError:
        if job["strict"]:
            raise


def _limit(which: int, bound: int) -> None:
    """Lower a limit to ``bound``, never above what this process is allowed."""
    hard = resource.getrlimit(which)[1]
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(which, (bound, bound))


def _say(channel: int, what: str, value: str) -> None:
    line = f"{what} {' '.join(value.split())[:MAX_REASON]}\n"
    try:
        os.write(channel, line.encode(errors="backslashreplace"))
    except OSError:  # nobody is left to hear it
        return


def _still_there(channel: int) -> bool:
    """Whether the supervisor still holds the other end."""
    try:
        return bool(os.read(channel, 1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def _let_go_of_standard_streams() -> None:
    """Leave the pipes to the command alone, so that they end with it."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


def _reaped() -> Iterator[tuple[int, int]]:
    """Process id and status of each child that has ended, orphans that came to us among them."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended
    except ChildProcessError:
        return


def _signal(pid: int, number: int, *, group: bool = False) -> None:
    try:
        (os.killpg if group else os.kill)(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _end_tree(child: int) -> None:
    """End all that came of the command, where no process namespace ends with us."""
    _signal(child, signal.SIGKILL, group=True)
    deadline = time.monotonic() + REAPING_S
    while (descendants := _descendants()) and time.monotonic() < deadline:
        # Stopped before any is killed: none makes new ones meanwhile.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in descendants:
                _signal(pid, number)
        for _ in _reaped():
            pass


def _descendants() -> set[int]:
    """All processes that come from this one; on Linux, where it is the parent of their orphans."""
    children: dict[int, set[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            children.setdefault(_parent(name), set()).add(int(name))
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {child for pid in new for child in children.get(pid, ())} - found
        found |= new
    return found


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:  # it has ended
        return 0
