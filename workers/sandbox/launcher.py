"""The first process inside the sandbox: confines itself, starts the command, reports its end, and ends its tree.

Run as a script by our own interpreter (``python -I -S launcher.py FD -- ARGV...``), standard library only. ``FD`` is one
end of a socket pair. The supervisor sends a job, one line of JSON; the launcher answers with one line:
``{"error": why the command could not be started}`` or ``{"status": its exit status, negative for a signal}``. The
supervisor's end is also the lifeline: once it is closed, by will or because the supervisor died, everything is ended.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import time

#: Longest wait, in seconds, for killed processes to vanish.
REAPING_S = 10.0


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
    child = os.fork()
    if not child:
        _become(command, job, channel)
    _say(channel, {"started": child})
    _let_go_of_standard_streams()
    while True:
        select.select([channel, wakeup], [], [])
        if not _still_there(channel):
            break
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _say(channel, {"status": os.waitstatus_to_exitcode(status)})
            break
    _end_tree(child)


def _become(command: list[str], job: dict[str, object], channel: socket.socket) -> None:
    """Turn this process into the command."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.chdir(str(job["cwd"]))
        limits = job["rlimits"]
        assert isinstance(limits, dict)  # noqa: S101 - our own supervisor wrote it
        for name, bound in limits.items():
            _limit(getattr(resource, name), bound)
        os.execvp(command[0], command)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        _say(channel, {"error": f"{error.strerror}: {error.filename or command[0]}"})
    finally:
        os._exit(127)


def _limit(which: int, bound: int) -> None:
    """Lower a limit to ``bound``, never above what this process is allowed."""
    hard = resource.getrlimit(which)[1]
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(which, (bound, bound))


def _say(channel: socket.socket, message: dict[str, object]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # nobody is left to hear it


def _still_there(channel: socket.socket) -> bool:
    """Whether the supervisor still holds the other end."""
    try:
        return bool(channel.recv(1, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _wake_on_child() -> socket.socket:
    """A socket that becomes readable when a child ends."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def _let_go_of_standard_streams() -> None:
    """Leave the pipes to the command alone, so that they end with it."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


def _end_tree(child: int) -> None:
    """End the command and all that came of it."""
    if os.getpid() == 1:
        return  # the kernel ends a process namespace with its first process
    deadline = time.monotonic() + REAPING_S
    while time.monotonic() < deadline:
        for pid in {child, *_descendants()}:
            _kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _descendants() -> list[int]:
    return []


if __name__ == "__main__":
    main()
