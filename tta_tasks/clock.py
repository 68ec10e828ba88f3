"""The time of an installation: its Redis server's.

Hosts' clocks differ. What is kept in Redis (ends of leases, deadlines, when something is due or was used) is compared
with the server's clock alone: scripts ask it themselves, everything else asks here.
"""

from __future__ import annotations

import contextlib
import time
from typing import Final

import redis

from tta_tasks.connection import translated
from tta_tasks.errors import StoreUnavailable

#: How often the server is asked for its time, in seconds; in between this host measures how long ago that was.
ASK_EVERY_S: Final = 10.0
#: By how much a host's clock may differ without a word, in seconds.
TOLERATED_S: Final = 5.0


class Clock:
    """Tells the server's time.

    Args:
        client: The server.
        url: Its address, for messages.
    """

    def __init__(self, client: redis.Redis, url: str) -> None:
        self._redis = client
        self._url = url
        #: The server's time, when this host's stopwatch showed the second figure.
        self._known: tuple[float, float] | None = None

    def now(self) -> float:
        """The server's time, in seconds since the epoch; right to the time that a round trip takes.

        Raises:
            StoreUnavailable: The server has never answered.
        """
        known = self._known
        if known is None:
            known = self._ask()
        elif _elapsed() - known[1] >= ASK_EVERY_S:
            with contextlib.suppress(StoreUnavailable):  # what it said last holds; who needs the server will hear of it
                known = self._ask()
        return known[0] + _elapsed() - known[1]

    def of(self, moment: float) -> float:
        """A moment of this host's clock, in the server's time: as far from now as it is here.

        Raises:
            StoreUnavailable: The server has never answered.
        """
        return self.now() + moment - time.time()

    def ahead(self) -> float:
        """By how much this host's clock is ahead of the server's, in seconds; negative where it is behind.

        Raises:
            StoreUnavailable: The server has never answered.
        """
        return -self.of(0.0)

    def warning(self) -> str:
        """What a person should know of this host's clock; empty where it is right.

        Raises:
            StoreUnavailable: The server has never answered.
        """
        ahead = self.ahead()
        if abs(ahead) <= TOLERATED_S:
            return ""
        return (
            f"This host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the ledger's server."
            " Work is not affected; times in logs and traces are. Let both ask a time server (NTP)."
        )

    def _ask(self) -> tuple[float, float]:
        sent = _elapsed()
        with translated(self._url):
            seconds, microseconds = self._redis.time()
        answered = _elapsed()
        # The server read its clock somewhere in between.
        self._known = known = seconds + microseconds / 1e6 + (answered - sent) / 2, answered
        return known


def _elapsed() -> float:
    """A stopwatch that no clock sets, and that goes on while the host sleeps, where there is one that does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
