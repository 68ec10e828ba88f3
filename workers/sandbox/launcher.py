"""The first process inside the sandbox: confines itself, starts the command, reports its end, and ends its tree.

Run as a script by our own interpreter (``python -I -S launcher.py FD -- ARGV...``), standard library only. ``FD`` is
one end of a socket pair. The supervisor sends a job, one line of JSON; the launcher answers with lines of JSON:
``{"started": pid}``, then ``{"error": why there is no command}`` or ``{"status": exit status, negative: a signal}``.
The supervisor's end is also the lifeline: once it is closed, by will or because the supervisor died, all is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

#: Longest wait, in seconds, for killed processes to vanish.
REAPING_S = 10.0
#: How often processes are counted where the kernel does not bound them, in seconds.
COUNT_S = 0.1


def main() -> None:
    """Do the job and leave."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    command = sys.argv[3:]
    try:
        job = json.loads(channel.makefile("r").readline())
    except ValueError:  # the supervisor died before it could say a word
        return
    wakeup = _wake_on_child()
    try:
        _confine(job)
    except OSError as error:
        _say(channel, {"error": f"the sandbox cannot be set up: {error}"})
        return
    counted = _Bound(job["processes"]) if "processes" in job else None
    child = os.fork()
    if not child:
        _become(command, job, channel)
    _let_go_of_standard_streams()
    if not _await_end(child, channel, wakeup, counted) and job.get("grace_s") and not (counted and counted.broken):
        _ask_to_end(child, wakeup, job["grace_s"])
    if job.get("reaper"):
        _end_tree(child)


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
        with open("/proc/loadavg") as load:  # noqa: PTH123 - see _kernel
            return int(load.read().split()[3].partition("/")[2])


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - see _kernel
    except OSError:  # it has ended
        return 0


def _await_end(child: int, channel: socket.socket, wakeup: int, counted: _Bound | None) -> bool:
    """Wait until the command has ended, or is to be ended; answer whether it has."""
    while True:
        ready, _, _ = select.select([channel.fileno(), wakeup], [], [], COUNT_S if counted else None)
        if counted and counted.check():
            return False
        if channel.fileno() in ready and not _still_there(channel):
            return False
        if wakeup in ready:
            os.read(wakeup, 4096)
        for pid, status in _reaped():
            if pid == child:
                _say(channel, {"status": os.waitstatus_to_exitcode(status)})
                return True


def _ask_to_end(child: int, wakeup: int, grace_s: float) -> None:
    """Let the command end by itself, for as long as it was granted."""
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGTERM)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([wakeup], [], [], left)[0]:
            os.read(wakeup, 4096)
        if any(pid == child for pid, _ in list(_reaped())):
            return


def _kernel() -> Any:  # noqa: ANN401 - a module
    """The calls to Linux; where they are needed only, since ``ctypes`` takes its time to load."""
    return _module("kernel")


def _module(name: str) -> Any:  # noqa: ANN401 - a module
    folder = os.path.dirname(__file__)  # noqa: PTH120 - pathlib takes its time, too
    if folder not in sys.path:
        sys.path.append(folder)
    return __import__(name)


def _confine(job: dict[str, Any]) -> None:
    """What is done once, by the launcher, for all that follows."""
    if "group" in job:
        os.write(job["group"], b"0")
        os.close(job["group"])
    if sys.platform != "linux":
        return
    kernel = _kernel()
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


def _become(command: list[str], job: dict[str, Any], channel: socket.socket) -> None:
    """Turn this process into the command."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.setsid()
        os.chdir(job["cwd"])
        if sys.platform == "linux":
            _kernel().drop_privileges()
        if "landlock" in job:
            _kernel().restrict_reach(**job["landlock"])
        for name, bound in job["rlimits"].items():
            _limit(getattr(resource, name), bound)
        if sys.platform == "linux":
            _refuse_calls(job)
        # Said by the command-to-be itself: the first thing it does may be to end us.
        _say(channel, {"started": os.getpid()})
        os.execvpe(command[0], command, job["env"])  # noqa: S606 - no shell, on purpose
    except (OSError, ValueError) as error:
        _say(channel, {"error": f"{getattr(error, 'strerror', None) or error}: {command[0]}"})
    finally:
        os._exit(127)


def _refuse_calls(job: dict[str, Any]) -> None:
    protected = {os.getppid(), *job.get("protected", ())}
    try:
        _module("syscalls").refuse(protected, everyone=bool(job.get("reaper")), segments=not job.get("segments", False))
    except OSError:
        if job["strict"]:
            raise


def _limit(which: int, bound: int) -> None:
    """Lower a limit to ``bound``, never above what this process is allowed."""
    hard = resource.getrlimit(which)[1]
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(which, (bound, bound))


def _say(channel: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # nobody is left to hear it
        channel.sendall(json.dumps(message).encode() + b"\n")


def _still_there(channel: socket.socket) -> bool:
    """Whether the supervisor still holds the other end."""
    try:
        return bool(channel.recv(1, socket.MSG_DONTWAIT))
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
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _end_tree(child: int) -> None:
    """End all that came of the command, where no process namespace ends with us."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    deadline = time.monotonic() + REAPING_S
    while (descendants := _descendants()) and time.monotonic() < deadline:
        # Stopped before any is killed: none makes new ones meanwhile.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in descendants:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        for _ in _reaped():
            pass


def _descendants() -> set[int]:
    """All processes that come from this one; on Linux, where it is the parent of their orphans."""
    children: dict[int, set[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():  # noqa: PTH208 - see _kernel
        with contextlib.suppress(ValueError, OSError), open(f"/proc/{int(name)}/stat", "rb") as stat:  # noqa: PTH123
            parent = int(stat.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, set()).add(int(name))
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {child for pid in new for child in children.get(pid, ())} - found
        found |= new
    return found


if __name__ == "__main__":
    main()
