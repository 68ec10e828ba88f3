"""Watches one command: feeds it, drains it, and sees that nothing of it remains."""

from __future__ import annotations

import contextlib
import marshal
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import IO, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from tta_tasks.errors import SandboxError
from workers.sandbox import orphans

#: How often the caller is asked whether to go on, in seconds.
POLL_S = 1.0
#: How long the launcher may take to leave before it is killed, in seconds: alone, and with a tree to end before.
FAREWELL_S, REAPING_S = 2.0, 12.0
#: Bytes taken from a pipe at once, and of all that a launcher may answer.
CHUNK, MAX_ANSWER = 1 << 16, 4096

Stopped = Literal["time", "cancelled"]


class Answer(BaseModel):
    """What a launcher says of its command."""

    model_config = ConfigDict(extra="forbid")

    #: Process id of the command.
    started: int | None = Field(default=None, gt=1)
    #: Why there is none.
    error: str = ""
    #: How it ended; negative: by that signal.
    status: int | None = Field(default=None, ge=-64, le=255)


class Tail:
    """The end of a stream, at most ``size`` bytes of it; ``onlooker`` is given all of it as it comes."""

    def __init__(self, size: int, onlooker: Callable[[bytes], None] | None = None) -> None:
        self._size = size
        self._onlooker = onlooker
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Take more of the stream."""
        if self._onlooker and data:
            self._onlooker(data)
        self._kept += data
        if len(self._kept) > 2 * self._size + CHUNK:
            self._cut()

    def __str__(self) -> str:
        self._cut()
        return self._kept.decode(errors="replace")

    def _cut(self) -> None:
        del self._kept[: max(0, len(self._kept) - self._size)]


class Supervisor:
    """One command under its launcher. A context manager: at the end of the block the whole tree is gone.

    Attributes:
        stdout: The end of what the command printed; complete after the block.
        stderr: The same of its standard error.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        job: Mapping[str, Any],
        stdin: str,
        tails: tuple[Tail, Tail],
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            argv: What starts the launcher; the word ``{channel}`` stands for the number of the channel's descriptor.
            env: The whole environment.
            job: What the launcher is told.
            stdin: Text for the command's standard input.
            tails: What keeps the end of its standard output, and of its standard error.
            descriptors: What the launcher is given beside its channel, under the same numbers.

        Raises:
            SandboxError: The first program of ``argv`` cannot be started.
        """
        self.stdout, self.stderr = tails
        self._reaper = bool(job.get("reaper"))
        self._farewell_s = (REAPING_S if self._reaper else FAREWELL_S) + float(job.get("grace_s", 0.0))
        text = marshal.dumps(dict(job))
        self._job = len(text).to_bytes(8, "big") + text
        self._input = memoryview(stdin.encode(errors="surrogateescape"))
        self._answer = bytearray()
        if self._reaper:
            orphans.adopt()
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [str(theirs.fileno()) if word == "{channel}" else word for word in argv],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=dict(env),
                    cwd="/",
                    pass_fds=[theirs.fileno(), *descriptors],
                    start_new_session=True,
                )
            except OSError as error:
                self._channel.close()
                self._let_go()
                raise SandboxError(f"The sandbox cannot start {argv[0]}: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._channel.close()  # the launcher's lifeline: it ends its tree and leaves
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._farewell_s)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._end_orphans()
            self._let_go()
            self._close_streams()

    def watch(self, wall_s: float, cancelled: Callable[[], bool] | None) -> Stopped | None:
        """See the command to its end, or to the end of what is granted to it; answer which of these it was."""
        deadline, ask_at = time.monotonic() + wall_s, 0.0
        with contextlib.suppress(BrokenPipeError):  # a launcher that did not start is told of by ``returncode``
            self._channel.sendall(self._job)
        with selectors.DefaultSelector() as selector:
            self._register(selector)
            while self._channel in selector.get_map():
                now = time.monotonic()
                if now >= deadline:
                    return "time"
                if cancelled and now >= ask_at:
                    ask_at = now + POLL_S
                    if cancelled():
                        return "cancelled"
                for key, _ in selector.select(min(deadline - now, POLL_S)):
                    if not key.data():
                        selector.unregister(key.fileobj)
        return None

    def returncode(self, stopped: Stopped | None) -> int:
        """Exit status of the command; negative: killed by that signal.

        Raises:
            SandboxError: The command did not start, or its launcher's answer is none.
        """
        said = self._said()
        if said.error:
            raise SandboxError(f"The command cannot be started: {said.error}.")
        if said.status is not None:
            return said.status
        if stopped or said.started:
            return -signal.SIGKILL  # the launcher was ended together with its command
        reason = str(self.stderr).strip() or f"its launcher ended with status {self._process.returncode}"
        raise SandboxError(f"The sandbox cannot be set up: {reason}.", "`tta doctor` shows what this host can do.")

    def _said(self) -> Answer:
        """What the launcher answered so far.

        Raises:
            SandboxError: It is no answer of a launcher: something else got hold of the channel.
        """
        try:
            lines = [line.partition(" ") for line in self._answer.decode().splitlines()]
            return Answer.model_validate_strings({what: value for what, _, value in lines})
        except ValueError as error:
            raise SandboxError("What should be the answer of the sandbox's launcher is none.") from error

    def _end_orphans(self) -> None:
        """End what outlived its launcher; only without a process namespace can anything have done so."""
        if not self._reaper or self._process.returncode >= 0:
            return
        with contextlib.suppress(SandboxError, ProcessLookupError, PermissionError):
            started = self._said().started
            if started and os.getpgid(started) == started != os.getpgrp():
                os.killpg(started, signal.SIGKILL)
        orphans.end()

    def _let_go(self) -> None:
        if self._reaper:
            orphans.let_go()

    def _register(self, selector: selectors.BaseSelector) -> None:
        for stream, tail in self._outputs():
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, partial(self._read, stream, tail))
        selector.register(self._channel, selectors.EVENT_READ, self._listen)
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - Popen was asked for a pipe
        os.set_blocking(stdin.fileno(), False)
        selector.register(stdin, selectors.EVENT_WRITE, partial(self._feed, stdin))

    def _outputs(self) -> list[tuple[IO[bytes], Tail]]:
        pairs = (self._process.stdout, self.stdout), (self._process.stderr, self.stderr)
        return [(stream, tail) for stream, tail in pairs if stream is not None]

    def _feed(self, stdin: IO[bytes]) -> bool:
        """Write some of the input; answer whether there is more."""
        try:
            self._input = self._input[os.write(stdin.fileno(), self._input[:CHUNK]) :] if self._input else self._input
        except BrokenPipeError:
            self._input = self._input[:0]
        if not self._input:
            stdin.close()
        return bool(self._input)

    @staticmethod
    def _read(stream: IO[bytes], tail: Tail) -> bool:
        """Take what is there; answer whether there may be more."""
        data = os.read(stream.fileno(), CHUNK)
        tail.add(data)
        return bool(data)

    def _listen(self) -> bool:
        try:
            data = self._channel.recv(MAX_ANSWER)
        except ConnectionResetError:
            return False
        self._answer += data
        return bool(data) and len(self._answer) <= MAX_ANSWER

    def _close_streams(self) -> None:
        for stream, tail in self._outputs():
            # What is in the pipe, and no more: where a stray process survived, its end may never come.
            with contextlib.suppress(BlockingIOError):
                for _ in range(16):
                    if not self._read(stream, tail):
                        break
            stream.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
