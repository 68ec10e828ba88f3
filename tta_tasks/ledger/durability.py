"""Waiting for the server's disk.

Only as good as the server's word: with ``appendfsync everysec`` Valkey 9.1.2 answers ``WAITAOF`` when the file is
written, before the disk has it (https://github.com/redis/redis/pull/13793). With ``always`` it is true.
"""

from __future__ import annotations

import time
from typing import Any

import redis

from tta_tasks.connection import connect, translated
from tta_tasks.errors import StoreUnavailable
from tta_tasks.ledger.base import LedgerBase
from tta_tasks.settings import Settings

#: A server that writes to its disk is woken so that it tells when that is done: at once, after the first of these, and
#: whenever half as long again has passed, but at least as often as after the last; in seconds.
FIRST_WAKE_S, LAST_WAKE_S = 0.0001, 0.005


#: How a server says that it cannot tell: it is older, or keeps nothing on disk. Whatever else it refuses is a fault.
CANNOT_TELL = ("unknown command", "appendonly is disabled")


class Durability(LedgerBase):
    """The disk of the ledger's Redis, as far as the server tells of it (``WAITAOF``)."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._tells_disk = True
        # Of its own: whoever holds a connection must not wait for another one of the same pool.
        self._waker = connect(settings)

    def wait_until_durable(self) -> None:
        """Wait until all that was written is on the server's disk, where the server can tell.

        Raises:
            StoreUnavailable: It is not there within ``submit_fsync_timeout_s``.
        """
        within_s = self._settings.submit_fsync_timeout_s
        if not within_s or not self._tells_disk:
            return
        try:
            with translated(self._url):
                on_disk = self._written(within_s)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.ResponseError):
                raise
            if not any(told in str(error.__cause__) for told in CANNOT_TELL):
                raise StoreUnavailable(
                    f"What was handed in is accepted, but may not be on the server's disk: {error.message}", error.hint
                ) from error
            self._tells_disk = False
            return
        if not on_disk:
            raise StoreUnavailable(
                f"What was handed in is accepted, but not on the disk of Redis within {within_s:g} s.",
                "Hand it in again with the same idempotency key, or see why the server's disk is slow.",
            )

    def keeps(self) -> bool | None:
        """Whether the server logs on its disk what is written (``appendonly``); ``None`` where it cannot tell."""
        try:
            with translated(self._url):
                self._redis.waitaof(1, 0, 1)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.ResponseError):
                raise
            return False if "appendonly" in str(error.__cause__) else None
        return True

    def _written(self, within_s: float) -> bool:
        pool = self._redis.connection_pool
        connection: Any = pool.get_connection()
        try:
            # The log is one: once this connection's own write is on disk, everything before it is.
            written = ("SET", f"{self._prefix}secured", 1, "EX", 60)
            connection.send_packed_command(connection.pack_commands([written, ("WAITAOF", 1, 0, int(within_s * 1000))]))
            connection.read_response()
            # A server that has nothing else to do looks after those who wait only ten times a second (its `hz`).
            began = time.monotonic()
            self._waker.ping()
            while not connection.can_read():
                time.sleep(min(max(FIRST_WAKE_S, (time.monotonic() - began) / 2), LAST_WAKE_S))
                self._waker.ping()
            return bool(connection.read_response()[0])
        except BaseException:
            connection.disconnect()  # an answer may still be on its way
            raise
        finally:
            pool.release(connection)
