"""What the classes of a ledger share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import redis

from tta_tasks import lua
from tta_tasks.clock import Clock
from tta_tasks.settings import Settings

SCRIPTS: Final = Path(__file__).parent


class LedgerBase:
    """One installation's ledger, or a part of it.

    Every method of one raises :class:`~tta_tasks.errors.StoreUnavailable` when Redis does not answer.

    Args:
        client: The ledger's Redis.
        settings: How this process is set up.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._prefix = settings.key_prefix
        self._url = settings.redis
        #: The server's time.
        self.clock = Clock(client, settings.redis)

    def _script(self, name: str, **constants: Any) -> lua.Script:  # noqa: ANN401 - what redis-py takes
        """The script ``name`` of this package, with what the settings say of its arguments."""
        limits = self._settings
        known = {
            "prefix": self._prefix,
            "retention": limits.retention_s,
            "max_events": limits.max_events,
            "lease": limits.lease_s,
        }
        path = SCRIPTS / f"{name}.lua"
        common = {argument: known[argument] for argument in lua.load(path).names if argument in known}
        return lua.Script(self._redis, path, **common, **constants)
