"""Which workers take tasks of which queue, and how many messages of a run each queue may have.

<prefix>workers:<queue>  zset    "<slots> <node name>" of the workers on it, by when they are due to be heard of again
<prefix>window:<queue>   string  how many messages of one run may be in the queue at a time
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from tta_tasks.connection import translated
from tta_tasks.ledger.base import LedgerBase

#: Messages that a run may have in a queue at a time, however few workers there are.
MIN_WINDOW: Final = 32


class WorkerRegistry(LedgerBase):
    """The workers of one installation.

    Every method raises :class:`~tta_tasks.errors.StoreUnavailable` when Redis does not answer.
    """

    def register(self, worker: str, queues: Iterable[str], slots: int) -> None:
        """Record for the time of a lease that ``worker`` takes tasks of ``queues``, ``slots`` at once."""
        now = self.clock.now()
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zremrangebyscore(self._key(queue), "-inf", now)
                pipe.zadd(self._key(queue), {f"{slots} {worker}": now + self._settings.lease_s})
                pipe.expire(self._key(queue), self._settings.retention_s)
            pipe.execute()

    def deregister(self, worker: str, queues: Iterable[str], slots: int) -> None:
        """Record that ``worker`` takes no more tasks."""
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zrem(self._key(queue), f"{slots} {worker}")
            pipe.execute()

    def refresh_windows(self, queues: Iterable[str], within_s: float) -> None:
        """Let a run have twice as many messages in each queue as its workers have slots; for ``within_s`` seconds."""
        names, now = list(queues), self.clock.now()
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for queue in names:
                pipe.zrangebyscore(self._key(queue), now, "+inf")
            found = cast("list[list[bytes]]", pipe.execute())
            for queue, workers in zip(names, found, strict=True):
                slots = sum(int(worker.partition(b" ")[0]) for worker in workers)
                pipe.set(f"{self._prefix}window:{queue}", max(MIN_WINDOW, 2 * slots), ex=max(1, int(within_s)))
            pipe.execute()

    def _key(self, queue: str) -> str:
        return f"{self._prefix}workers:{queue}"
