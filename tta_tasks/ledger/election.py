"""Roles that one worker at a time has.

<prefix><role>  string  the elected worker; expires, so that another one follows a worker that has died
"""

from __future__ import annotations

import redis

from tta_tasks.connection import translated
from tta_tasks.ledger.base import LedgerBase
from tta_tasks.settings import Settings


class Election(LedgerBase):
    """The election for one role.

    Args:
        client: The ledger's Redis.
        settings: How this process is set up.
        role: What the elected worker does.
        hold_s: How long a worker stays elected, in seconds, unless it asks again.
    """

    def __init__(self, client: redis.Redis, settings: Settings, role: str, hold_s: float) -> None:
        super().__init__(client, settings)
        self._elect = self._script("elect", role=role, hold_ms=int(1000 * hold_s))
        self._resign = self._script("resign", role=role)

    def elected(self, worker: str) -> bool:
        """Whether ``worker`` is elected, for ``hold_s`` from now: it was already, or no other was."""
        with translated(self._url):
            return bool(self._elect(worker=worker))

    def resign(self, worker: str) -> None:
        """Let another worker be elected at once, if ``worker`` is."""
        with translated(self._url):
            self._resign(worker=worker)
