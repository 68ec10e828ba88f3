"""What the targets that serve have in common: a public address, a watch, and the front to the keeper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from tta_tasks.models import Check, Model
from workers.deployers.checks import Health, watched
from workers.deployers.serving.client import Front
from workers.deployers.serving.states import Backend

#: ``host:port``; an IPv6 address stands in brackets.
Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]


class Serving(Model):
    """How a service is put before its clients."""

    #: Where clients connect, as ``host:port``; stays the same whichever release answers.
    public: Address
    #: Seconds that the connections of the previous release may take to end before it is ended.
    drain_s: float = Field(default=10.0, ge=0)


class Beside:
    """Backends side by side behind the switch of one environment.

    Args:
        base: The environment's folder.
        serving: How they are served.
    """

    def __init__(self, base: Path, serving: Serving) -> None:
        self._front = Front(base, serving.public)
        self._serving = serving
        self._deaths: dict[str, int] = {}
        #: Where clients connect.
        self.location = f"tcp://{serving.public}"

    def start(self, backend: Backend) -> None:
        """Have a backend run beside the others; one that runs already is left alone."""
        digest = backend.release
        self._deaths[digest] = self._front.seen(digest).deaths if self._front.serves(digest) else 0
        self._front.start(backend)

    def dead(self, digest: str) -> str:
        """Why a backend does not run as it was started, or an empty string."""
        seen = self._front.seen(digest)
        return (seen.said or "it ended") if seen.deaths > self._deaths.get(digest, 0) else ""

    def address(self, digest: str) -> str:
        """Where it listens itself."""
        return self._front.seen(digest).address

    def look(self, digest: str) -> tuple[Check, ...]:
        """What is wrong where nobody serves a backend; nothing is done about it."""
        return () if self._front.served(digest) else (Check(name="served", ok=False, detail="nobody serves it"),)

    def switch(self, digest: str | None, previous: str | None) -> None:
        """Send clients to ``digest``, and to ``previous`` should that not take them."""
        self._front.order(digest, previous)

    def watched(
        self,
        digest: str,
        watch_s: float,
        health: Health,
        once: Callable[[Health], Check],
        dead: Callable[[], str] | None = None,
    ) -> Check:
        """Look at a backend that is in use, for a while; ``dead`` tells of one that somebody else keeps running."""
        return watched(
            watch_s,
            health,
            lambda asked: once(asked.at(self.address(digest))),
            dead or (lambda: self.dead(digest)),
        )

    def settle(self, digest: str | None) -> None:
        """End all others, once their connections have ended."""
        self._front.retain({digest}, self._serving.drain_s)
