"""Results by content: a task whose inputs, request and engine are those of an earlier one has its result.

This is what makes tasks idempotent: one that is delivered twice, or submitted again, is answered from here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from tta_tasks.clock import Clock
from tta_tasks.connection import connect, translated
from tta_tasks.settings import Settings

#: Part of every key; raise it when what is stored changes its meaning.
FORMAT = 1
#: Results forgotten in a round trip.
AT_ONCE = 500


def content_key(*, stage: str, version: str, request: Mapping[str, object], inputs: Iterable[Path], root: Path) -> str:
    """The key of a result: the same for the same work, wherever and whenever it is done.

    Args:
        stage: The kind of work.
        version: Engine and version, and whatever else of the host matters (Python, platform).
        request: The fields of the request that matter, JSON-safe. A run's or task's id does not.
        inputs: The files the result depends on, in any order; one that does not exist counts as absent.
        root: The tree; the files' paths relative to it are part of the key.

    Returns:
        A sha256, in hexadecimal.

    Raises:
        ValueError: An input is not below ``root``, or ``request`` is not JSON-safe.
    """
    key = hashlib.sha256()
    facts = json.dumps([FORMAT, stage, version, dict(request)], sort_keys=True, allow_nan=False)
    key.update(facts.encode() + b"\n")
    for path in sorted({path.relative_to(root) for path in inputs}, key=os.fsencode):
        # Fixed lengths, so that no two lists of files read alike.
        key.update(hashlib.sha256(os.fsencode(path)).digest())
        try:
            key.update(hashlib.sha256((root / path).read_bytes()).digest())
        except (FileNotFoundError, IsADirectoryError):
            key.update(b"absent")
    return key.hexdigest()


class CacheUsage(NamedTuple):
    """What is kept."""

    results: int
    #: Bytes of them together.
    size: int


class ResultCache:
    """Results in Redis, forgotten when they were not asked for during ``TTA_RETENTION_S``, or when there are too many.

    Args:
        settings: Which Redis, under which prefix, for how long, and how many.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings)
        self._url = settings.redis
        self._prefix = f"{settings.key_prefix}result:"
        self._index = f"{settings.key_prefix}results"
        self._counters = f"{settings.key_prefix}counters"
        self._clock = Clock(self._redis, self._url)
        self._ttl = settings.retention_s
        self._most = settings.max_cached_results

    def get(self, key: str) -> dict[str, Any] | None:
        """The result stored under ``key``, whose expiry starts anew; ``None`` where there is none, or none readable.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        with translated(self._url):
            stored = self._redis.getex(self._prefix + key, ex=self._ttl)
            if stored is not None:
                self._redis.zadd(self._index, {key: self._clock.now()}, xx=True)
                self._redis.expire(self._index, self._ttl)
        try:
            result = json.loads(stored) if isinstance(stored, str | bytes) else None
        except ValueError:
            return None  # done again, it is overwritten
        return result if isinstance(result, dict) else None

    def usage(self) -> CacheUsage:
        """How much is kept.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        with translated(self._url):
            keys = cast("list[bytes]", self._redis.zrange(self._index, 0, -1))
            with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.strlen(self._prefix + key.decode())
                sizes = [size for size in pipe.execute() if size]  # those that have expired are empty
        return CacheUsage(len(sizes), sum(sizes))

    def clear(self) -> int:
        """Forget all results; answers how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        forgotten = 0
        with translated(self._url):
            while oldest := cast("list[tuple[bytes, float]]", self._redis.zpopmin(self._index, AT_ONCE)):
                forgotten += self._redis.delete(*(self._prefix + name.decode() for name, _ in oldest))
        return forgotten

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Store a result, JSON-safe, under ``key``.

        Raises:
            StoreUnavailable: Redis does not answer, or is full.
        """
        with translated(self._url):
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(self._prefix + key, json.dumps(dict(result)), ex=self._ttl)
                pipe.zadd(self._index, {key: self._clock.now()})
                pipe.expire(self._index, self._ttl)
                pipe.zcard(self._index)
                surplus = int(pipe.execute()[-1]) - self._most
            if surplus > 0:
                oldest = cast("list[tuple[bytes, float]]", self._redis.zpopmin(self._index, surplus))
                self._redis.delete(*(self._prefix + name.decode() for name, _ in oldest))
                self._redis.hincrby(self._counters, "evicted:results", len(oldest))
