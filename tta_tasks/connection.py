"""Connections to Redis, and its faults in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis

from tta_tasks.errors import StoreUnavailable
from tta_tasks.settings import Settings


def connect(settings: Settings, url: str = "") -> redis.Redis:
    """A client of the Redis of ``settings``, or of the one at ``url``, with a pool. Connects on first use."""
    return redis.Redis.from_url(
        url or settings.redis,
        socket_connect_timeout=5,
        socket_timeout=30,
        health_check_interval=25,
        retry_on_timeout=True,
    )


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn redis-py's exceptions into :class:`StoreUnavailable`, without the password in ``url``."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} refused the password or user.", "Check TTA_BROKER_URL / TTA_RESULT_URL."
        ) from error
    except redis.exceptions.OutOfMemoryError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} is full.",
            "Raise its maxmemory, lower TTA_RETENTION_S, or keep artifacts elsewhere with TTA_ARTIFACT_URL.",
        ) from error
    except redis.RedisError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} does not answer: {str(error).rstrip('.')}.",
            "Is it running, and is TTA_BROKER_URL / TTA_RESULT_URL right?",
        ) from error


def without_password(url: str) -> str:
    """``url`` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url
