"""Connections to Redis, and its faults in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import redis
from amqp.exceptions import AccessRefused

from tta_tasks import tls
from tta_tasks.errors import StoreUnavailable
from tta_tasks.settings import SOCKET_SCHEME, Settings, settings

#: Most connections of a client; who needs one more waits until another is done, so many seconds at most.
MAX_CONNECTIONS, WAIT_S = 50, 60
#: What a server says when it refuses a command -> what it means, and what to do.
REFUSALS: Final = {
    "READONLY": (
        "is read-only",
        "Another server may be taking over: wait for it, or name the one that can be written.",
    ),
    "MISCONF": ("cannot write to its disk", "Make room there, and see its log."),
    "WRONGTYPE": ("holds something else under one of our keys", "Give each installation a TTA_KEY_PREFIX of its own."),
    "CROSSSLOT": ("is a cluster", "Name one server: the ledger's steps span keys."),
    "MOVED": ("is a cluster", "Name one server: the ledger's steps span keys."),
    "CLUSTERDOWN": ("is a cluster", "Name one server: the ledger's steps span keys."),
}


def connect(chosen: Settings, url: str = "") -> redis.Redis:
    """A client for any number of threads, of the Redis of ``chosen`` or the one at ``url``; connects on first use."""
    pool = redis.BlockingConnectionPool.from_url(
        as_redis_py(url or chosen.redis),
        **tls.redis_options(chosen, url or chosen.redis),
        max_connections=MAX_CONNECTIONS,
        timeout=WAIT_S,
        socket_connect_timeout=5,
        socket_timeout=30,
        health_check_interval=25,
        retry_on_timeout=True,
    )
    return redis.Redis.from_pool(pool)


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
        message, hint = (
            refusal(error, url)
            or answer(error)
            or (
                f"does not answer: {str(error).rstrip('.')}",
                "Is it running, and is TTA_BROKER_URL / TTA_RESULT_URL right (rediss:// only where it speaks TLS)?",
            )
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


def answer(error: BaseException) -> tuple[str, str] | None:
    """What a server means that does answer, and refuses; and what to do. ``None`` where ``error`` is no such answer."""
    if not isinstance(error, redis.ResponseError):
        return None
    # redis-py takes some of the codes for classes.
    code = next((code for code, kind in _CLASSES.items() if isinstance(error, kind)), str(error).partition(" ")[0])
    if code in REFUSALS:
        meaning, hint = REFUSALS[code]
        return f"{meaning} ({str(error).rstrip('.')})", hint
    return f"refuses: {str(error).rstrip('.')}", "See its log."


_CLASSES: Final = {
    "READONLY": redis.exceptions.ReadOnlyError,
    "CROSSSLOT": redis.exceptions.ClusterCrossSlotError,
    "MOVED": redis.exceptions.AskError,
    "CLUSTERDOWN": redis.exceptions.ClusterDownError,
}


def without_password(url: str) -> str:
    """``url`` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url
