"""Artifacts in the Redis that is there already: bounded singly and in total, and gone when no longer used.

<prefix>artifact:<digest>  string  the bytes
<prefix>artifacts          zset    digests by their last use
<prefix>artifact-sizes     hash    digest -> bytes
<prefix>artifact-bytes     string  the sum of these
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tta_tasks.clock import Clock
from tta_tasks.connection import as_redis_py, translated
from tta_tasks.errors import SettingsError
from tta_tasks.lua import Script
from tta_tasks.stores import content
from tta_tasks.stores.signing import Signer

#: Seconds to connect, and to wait for an answer; the largest artifact must fit into the latter.
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
#: Digests read in a round trip when room is made.
AT_ONCE = 500


class RedisStore:
    """An :class:`~tta_tasks.protocols.ArtifactStore` in Redis or Valkey (>= 6.2).

    Args:
        url: ``redis://``, ``rediss://`` or ``redis+socket://``; may hold a password, which is never shown.
        prefix: Put before ``artifact:<digest>``.
        retention_s: An artifact expires this long after its last use.
        max_bytes: Largest artifact; Redis itself ends at 512 MiB.
        max_total_bytes: What :meth:`evict` leaves of all artifacts together.
        fresh_s: For how long after its last use an artifact stays all the same: whoever stores one tells the ledger a
            little later what it is for.
        tls: For ``rediss://``, :func:`tta_tasks.tls.redis_options`.
        signer: Signs and judges; without, neither.

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
        max_total_bytes: int = 2 << 30,
        fresh_s: float = 60.0,
        tls: Mapping[str, Any] | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._place = content.without_secrets(url)
        try:
            self._redis = redis.Redis.from_url(
                as_redis_py(url),
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
        self._index = f"{prefix}artifacts"
        self._total = f"{prefix}artifact-bytes"
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._fresh_s = fresh_s
        self._clock = Clock(self._redis, self._place)
        folder = Path(__file__).parent
        self._use = Script(self._redis, folder / "redis_use.lua", prefix=prefix, retention=retention_s)
        self._evict = Script(self._redis, folder / "redis_evict.lua", prefix=prefix)
        self._signer = signer or Signer()

    def put(self, data: bytes) -> str:
        """See :meth:`ArtifactStore.put <tta_tasks.protocols.ArtifactStore.put>`."""
        digest = content.digest_of(content.within(data, self._max_bytes))
        # What is there already may have been stored by somebody without the key.
        if self._signer.signs or not self.has(digest):
            with translated(self._place):
                self._redis.set(self._prefix + digest, self._signer.signed(digest, data), ex=self._retention_s)
            self.has(digest)
        return digest

    def get(self, digest: str) -> bytes:
        """See :meth:`ArtifactStore.get <tta_tasks.protocols.ArtifactStore.get>`; renews its expiry."""
        key = self._prefix + content.well_formed(digest)
        with translated(self._place):
            stored = self._redis.get(key) if self.has(digest) else None
        if not isinstance(stored, bytes):
            raise content.missing(digest, self._place)
        if (data := self._signer.verified(digest, stored, self._place)) is None:
            with translated(self._place):
                self._redis.delete(key)
            raise content.damaged(digest, self._place)
        return data

    def has(self, digest: str) -> bool:
        """See :meth:`ArtifactStore.has <tta_tasks.protocols.ArtifactStore.has>`."""
        with translated(self._place):
            return bool(self._use(digest=content.well_formed(digest)))

    def prune(self) -> int:
        """Nothing to do: Redis itself removes what has expired."""
        return 0

    def evict(self, needed: Callable[[], Collection[str]]) -> int:
        """See :meth:`ArtifactStore.evict <tta_tasks.protocols.ArtifactStore.evict>`."""
        now = self._clock.now()
        # Redis has removed these itself.
        for digest, used in self._oldest(now - self._retention_s):
            self._removed(digest, used)
        with translated(self._place):
            surplus = int(cast("bytes | None", self._redis.get(self._total)) or 0) - self._max_total_bytes
        if surplus <= 0:
            return 0
        kept, evicted = needed(), 0
        for digest, used in self._oldest(now - self._fresh_s):
            if surplus <= 0:
                break
            if digest not in kept and (size := self._removed(digest, used)):
                surplus -= size
                evicted += 1
        return evicted

    def _oldest(self, until: float) -> Iterator[tuple[str, float]]:
        """Digests last used before ``until``, and when, the oldest first; read as they are asked for."""
        position = 0.0
        seen: set[str] = set()
        while True:
            with translated(self._place):
                found = cast(
                    "list[tuple[bytes, float]]",
                    self._redis.zrangebyscore(
                        self._index, position, until, start=0, num=len(seen) + AT_ONCE, withscores=True
                    ),
                )
            fresh = [(name.decode(), used) for name, used in found if name.decode() not in seen]
            if not fresh:
                return
            yield from fresh
            position = fresh[-1][1]
            seen = {name for name, used in fresh if used == position}

    def _removed(self, digest: str, used: float) -> int:
        with translated(self._place):
            return int(self._evict(digest=content.well_formed(digest), last_used=used))

    def close(self) -> None:
        """Give back the connections."""
        self._redis.close()
