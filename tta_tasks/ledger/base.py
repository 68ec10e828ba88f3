"""What the parts of a ledger share."""

from __future__ import annotations

import redis

from tta_tasks.settings import Settings


class Part:
    """A part of one installation's ledger.

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
