"""Starts what is measured, hears what it tells, and passes on what keeps to the rules.

Run as a script by the component's interpreter (``python -I -S referee.py CONFIG``): no foreign code runs in this
process, and nothing is imported but the standard library; no more of it than is needed, which is why two modules are
taken by their inner names. The measured process (``python -m <this folder> CONFIG DESCRIPTOR``) has one end of a socket
pair and nothing else that leads to the worker. Its lines, ``KIND JSON``, come out on our standard output: known kinds,
in the order of a session, from that process itself (the kernel says who wrote), bounded, and nothing after ``finish``.
The last line is ours: ``exit {"status": ..., "refused": ...}``, with the status that the kernel reports and the rule
that was broken, if any. The end of what it printed goes to our standard error. The worker checks the shape of the JSON.
"""

from __future__ import annotations

import _socket  # the module around it takes as long to load as everything else here
import os
import select
import sys

_BEFORE, _RUNNING, _MEASURED, _FINISHED = range(4)
#: Kind of event -> the parts of a session in which it may come.
KINDS = {
    "collecting": (_BEFORE,),
    "collected": (_BEFORE,),
    "collect-error": (_BEFORE, _RUNNING),
    "interrupted": (_BEFORE, _RUNNING),
    "imported": (_RUNNING,),
    "start": (_RUNNING,),
    "report": (_RUNNING,),
    "ended": (_RUNNING,),
    "left": (_RUNNING,),
    "executed": (_RUNNING,),
    "mutant": (_RUNNING,),
    "module": (_MEASURED,),
    "broken": (_MEASURED,),
    "context": (_MEASURED,),
    "counted": (_MEASURED,),
    "finish": (_FINISHED,),
}
#: Bytes of one event, and of all.
MAX_EVENT, MAX_EVENTS = 8 << 20, 64 << 20
#: Tests that are listened to.
MAX_TESTS = 100_000
#: Bytes of its printed output that are passed on.
SAID = 4096
_CHUNK = 1 << 16
#: Reads that take all that can wait in a socket or a pipe.
_LEFT_READS = 4096
#: How often its end is asked for where the system does not tell, in milliseconds.
_POLL_MS = 20
_SIGKILL = 9
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
#: ``struct ucred``: process, user and group.
_CREDENTIALS = 12


class Rules:
    """What may be told, in which order, and how much of it."""

    def __init__(self) -> None:
        self.part = _BEFORE
        self.bytes = self.tests = 0
        self.finished = False

    def broken_by(self, line: bytes) -> str:
        """Which rule a line breaks, or an empty string."""
        self.bytes += len(line) + 1
        kind, _, _ = line.partition(b" ")
        name = kind.decode("ascii", "replace")
        parts = KINDS.get(name)
        if parts is None or not line.isascii():
            return "something that is no event"
        if self.finished:
            return "something after its end"
        if self.part > parts[-1]:
            return f"'{name}' out of order"
        self.part = max(self.part, parts[0])
        self.tests += name == "collected"
        self.finished = name == "finish"
        if self.tests > MAX_TESTS:
            return f"more than {MAX_TESTS} tests"
        return f"more than {MAX_EVENTS >> 20} MB" if self.bytes > MAX_EVENTS else ""


class Referee:
    """One measured process."""

    def __init__(self, argv: list[str]) -> None:
        self.rules = Rules()
        self.refused = ""
        self.said = bytearray()
        self._pending = bytearray()
        self._ours, theirs = _socket.socketpair()
        if sys.platform == "linux":
            self._ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self._printed, printing = os.pipe()
        self.child = _start([*argv, str(theirs.fileno())], theirs.fileno(), printing)
        theirs.close()
        os.close(printing)
        self._ours.setblocking(False)  # noqa: FBT003
        os.set_blocking(self._printed, False)

    def watch(self) -> int:
        """See the process to its end; answer its exit status, negative: a signal."""
        poller = select.poll()
        readers = {self._ours.fileno(): self._hear, self._printed: self._read_printed}
        for descriptor in readers:
            poller.register(descriptor, select.POLLIN)
        end = _descriptor_of(self.child)
        if end is not None:
            poller.register(end, select.POLLIN)
        ended, status = 0, 0
        while not ended and not self.refused:
            for descriptor, _ in poller.poll(None if end is not None else _POLL_MS):
                if descriptor in readers and readers[descriptor]() == 0:
                    poller.unregister(descriptor)
            ended, status = os.waitpid(self.child, os.WNOHANG)
        if not ended:
            _end(self.child)
            _, status = os.waitpid(self.child, 0)
        # What it told before its end, and no more: what it left behind may hold the other end, and write for ever.
        for read in readers.values():
            for _ in range(_LEFT_READS):
                if read() <= 0:
                    break
        return os.waitstatus_to_exitcode(status)

    def _hear(self) -> int:
        """Take what was told; answer how many bytes, 0: no more will come, -1: nothing now."""
        try:
            data, notes, _, _ = self._ours.recvmsg(_CHUNK, _socket.CMSG_SPACE(_CREDENTIALS))
        except BlockingIOError:
            return -1
        if data and not self.refused and self._is_child(notes):
            self._take(data)
        return len(data)

    def _is_child(self, notes: list[tuple[int, int, bytes]]) -> bool:
        """Whether the process itself wrote it, not something that came of it; only Linux says."""
        if sys.platform != "linux":
            return True
        return any(int.from_bytes(note[:4], sys.byteorder) == self.child for _, _, note in notes)

    def _take(self, data: bytes) -> None:
        lines = (self._pending + data).split(b"\n") if b"\n" in data else [self._pending + data]
        self._pending = bytearray(lines.pop())
        for line in lines:
            self.refused = self.refused or self.rules.broken_by(bytes(line))
            if self.refused:
                return
            _write_all(1, bytes(line) + b"\n")
        if len(self._pending) > MAX_EVENT:
            self.refused = f"more than {MAX_EVENT >> 20} MB at once"

    def _read_printed(self) -> int:
        """Take what was printed; answers as :meth:`_hear`."""
        try:
            data = os.read(self._printed, _CHUNK)
        except BlockingIOError:
            return -1
        self.said += data
        del self.said[: max(0, len(self.said) - SAID)]
        return len(data)


def main(config: str) -> None:
    """Do all of it."""
    _stay_private()
    package = os.path.basename(os.path.dirname(__file__))  # noqa: PTH119, PTH120
    referee = Referee([sys.executable, "-m", package, config])
    status = referee.watch()
    _write_all(2, bytes(referee.said))
    _write_all(1, b'exit {"status": %d, "refused": "%s"}\n' % (status, referee.refused.encode()))


def _stay_private() -> None:
    """Nobody of this user may trace this process, read its memory or take its descriptors (Linux)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(argv: list[str], channel: int, printing: int) -> int:
    """A process with a session of its own, which ends with us, and has no other descriptors of ours than these."""
    child = os.fork()
    if child:
        return child
    try:
        if sys.platform == "linux":  # elsewhere the sandbox ends a process group, and nothing that has left it
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        os.dup2(printing, 1)
        os.dup2(printing, 2)
        os.set_inheritable(channel, True)  # noqa: FBT003
        os.execv(argv[0], argv)  # noqa: S606
    finally:
        os._exit(127)


def _descriptor_of(child: int) -> int | None:
    """A descriptor that becomes readable when a child ends, where the system has such."""
    try:
        return os.pidfd_open(child)
    except (AttributeError, OSError):
        return None


def _end(child: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, _SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main(sys.argv[1])
