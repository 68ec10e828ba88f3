"""Artifacts in the Redis that is there already: bounded in size, and gone when no longer used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tta_tasks.connection import translated
from tta_tasks.errors import SettingsError
from tta_tasks.stores import content
from tta_tasks.stores.signing import Seal

#: Seconds to connect, and to wait for an answer; the largest artifact must fit into the latter.
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0


class RedisStore:
    """An :class:`~tta_tasks.protocols.ArtifactStore` in Redis or Valkey (>= 6.2).

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; may hold a password, which is never shown.
        prefix: Put before ``artifact:<digest>``.
        retention_s: An artifact expires this long after its last use.
        max_bytes: Largest artifact; Redis itself ends at 512 MiB.
        tls: For ``rediss://``, :func:`tta_tasks.tls.redis_options`.
        seal: Signs and judges; without, neither.

    Raises:
        SettingsError: ``url`` cannot be read as one.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        retention_s: int,
        max_bytes: int,
        tls: Mapping[str, Any] | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._place = content.without_secrets(url)
        try:
            self._redis = redis.Redis.from_url(
                url,
                **(tls or {}),
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                # A server that was restarted costs a moment, not a task.
                retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
            )
        except ValueError as error:
            raise SettingsError(
                f"The Redis URL for artifacts ({self._place}) cannot be read.", "Expected redis://host:port/0."
            ) from error
        self._prefix = f"{prefix}artifact:"
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._seal = seal or Seal()

    def put(self, data: bytes) -> str:
        """See :meth:`ArtifactStore.put <tta_tasks.protocols.ArtifactStore.put>`."""
        digest = content.digest_of(content.within(data, self._max_bytes))
        # What is there already may have been stored by somebody without the key.
        if self._seal.signs or not self.has(digest):
            with translated(self._place):
                self._redis.set(self._prefix + digest, self._seal.sealed(digest, data), ex=self._retention_s)
        return digest

    def get(self, digest: str) -> bytes:
        """See :meth:`ArtifactStore.get <tta_tasks.protocols.ArtifactStore.get>`; renews its expiry."""
        key = self._prefix + content.well_formed(digest)
        with translated(self._place):
            stored = self._redis.getex(key, ex=self._retention_s)
        if not isinstance(stored, bytes):
            raise content.missing(digest, self._place)
        if (data := self._seal.opened(digest, stored, self._place)) is None:
            with translated(self._place):
                self._redis.delete(key)
            raise content.damaged(digest, self._place)
        return data

    def has(self, digest: str) -> bool:
        """See :meth:`ArtifactStore.has <tta_tasks.protocols.ArtifactStore.has>`."""
        with translated(self._place):
            return bool(self._redis.expire(self._prefix + content.well_formed(digest), self._retention_s))

    def prune(self) -> int:
        """Nothing to do: Redis itself removes what has expired."""
        return 0

    def close(self) -> None:
        """Give back the connections."""
        self._redis.close()
