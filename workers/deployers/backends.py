"""Shared by the platforms that serve: a public address, and backends that run next to each other behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from tta_tasks.models import Check, Model
from workers.deployers.checks import Health, watch
from workers.deployers.serving.client import ServingClient
from workers.deployers.serving.states import Backend

#: ``host:port``; an IPv6 address stands in brackets.
Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]


class ServingConfig(Model):
    """Where clients reach a service."""

    #: Where clients connect, as ``host:port``; the same for every release.
    public: Address
    #: Seconds for the connections of the previous release to end before it is stopped.
    drain_s: float = Field(default=10.0, ge=0)


class Backends:
    """The backends behind the public address of one environment.

    Args:
        base: The environment's folder.
        config: The public address.
    """

    def __init__(self, base: Path, config: ServingConfig) -> None:
        self._client = ServingClient(base, config.public)
        self._config = config
        self._exits: dict[str, int] = {}
        #: Where clients connect.
        self.location = f"tcp://{config.public}"

    def start(self, backend: Backend) -> None:
        """Run a backend next to the others, unless it runs already; it gets no connections yet."""
        digest = backend.release
        self._exits[digest] = self._client.status(digest).exits if self._client.has(digest) else 0
        self._client.start(backend)

    def exit_reason(self, digest: str) -> str:
        """Return why a backend has ended since it was started, or an empty string."""
        status = self._client.status(digest)
        return (status.last_exit or "it ended") if status.exits > self._exits.get(digest, 0) else ""

    def address(self, digest: str) -> str:
        """Return where a backend itself listens."""
        return self._client.status(digest).address

    def inspect(self, digest: str) -> tuple[Check, ...]:
        """Return a failed check if a backend gets no connections; change nothing."""
        if self._client.gets_connections(digest):
            return ()
        return (Check(name="served", ok=False, detail="it gets no connections"),)

    def route(self, digest: str | None, previous: str | None) -> None:
        """Forward clients to ``digest``, and to ``previous`` if that does not accept."""
        self._client.route(digest, previous)

    def watch(
        self,
        digest: str,
        watch_s: float,
        health: Health,
        ask: Callable[[Health], Check],
        exit_reason: Callable[[], str] | None = None,
    ) -> Check:
        """Watch a backend in use.

        Args:
            digest: The backend.
            watch_s: Seconds.
            health: How to ask it.
            ask: Asks it once.
            exit_reason: Why it has ended, or an empty string; for a backend that the supervisor does not run.
        """
        return watch(
            watch_s,
            health,
            lambda asked: ask(asked.at(self.address(digest))),
            exit_reason or (lambda: self.exit_reason(digest)),
        )

    def retire_others(self, digest: str | None) -> None:
        """Stop all backends but ``digest`` when their connections have ended."""
        self._client.retain({digest}, self._config.drain_s)
