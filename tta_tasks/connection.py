"""Connections to Redis, and its faults in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from amqp.exceptions import AccessRefused

from tta_tasks import tls
from tta_tasks.errors import StoreUnavailable
from tta_tasks.settings import SOCKET_SCHEME, Settings, settings


def connect(chosen: Settings, url: str = "") -> redis.Redis:
    """A client of the Redis of ``chosen``, or of the one at ``url``, with a pool. Connects on first use."""
    return redis.Redis.from_url(
        as_redis_py(url or chosen.redis),
        **tls.redis_options(chosen, url or chosen.redis),
        socket_connect_timeout=5,
        socket_timeout=30,
        health_check_interval=25,
        retry_on_timeout=True,
    )


def as_redis_py(url: str) -> str:
    """``url`` as redis-py writes it: Celery and Kombu have another name for a Unix socket."""
    if not url.startswith(SOCKET_SCHEME):
        return url
    place, _, query = url.removeprefix(SOCKET_SCHEME).partition("?")
    return f"unix://{place}{query and '?'}{query.replace('virtual_host=', 'db=')}"


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn redis-py's exceptions into :class:`StoreUnavailable`, without the password in ``url``."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise StoreUnavailable(
            f"Redis at {without_password(url)} is full.",
            "Raise its maxmemory, lower TTA_RETENTION_S, or keep artifacts elsewhere with TTA_ARTIFACT_URL.",
        ) from error
    except redis.RedisError as error:
        message, hint = refusal(error, url) or (
            f"does not answer: {str(error).rstrip('.')}",
            "Is it running, and is TTA_BROKER_URL / TTA_RESULT_URL right (rediss:// only where it speaks TLS)?",
        )
        raise StoreUnavailable(f"Redis at {without_password(url)} {message}.", hint) from error


def refusal(error: BaseException, url: str) -> tuple[str, str] | None:
    """Why the server at ``url`` was reached and lets us not in, and what to do; ``None`` where ``error`` tells no such.

    Waiting does not mend it.
    """
    for cause in tls.chain(error):
        if isinstance(cause, redis.AuthenticationError | AccessRefused):
            return "refused the password or user", "Check TTA_BROKER_URL / TTA_RESULT_URL."
        if isinstance(cause, redis.exceptions.NoPermissionError):
            return f"does not let this user do that: {str(cause).rstrip('.')}", (
                "Give each process the user made for it, and users the keys of TTA_KEY_PREFIX; see deploy/redis."
            )
    if (found := tls.fault(error) or tls.turned_away(url, settings())) is not None:
        why, hint = found
        return f"cannot be spoken to over TLS: {why}", hint
    return None


def without_password(url: str) -> str:
    """``url`` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url
