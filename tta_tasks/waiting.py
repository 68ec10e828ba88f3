"""Waiting for tasks to end, many at once, on one connection and without polling."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import redis

from tta_tasks.connection import connect, translated
from tta_tasks.errors import RecordMissing, RecordUnreadable, StoreUnavailable, TtaError
from tta_tasks.ledger import Ledger
from tta_tasks.models import Result
from tta_tasks.settings import Settings

#: How long a lost notification may go unnoticed, in seconds.
HEAL_S = 2.0
#: How often the listener looks whether there is somebody new to listen for, in seconds.
TICK_S = 0.2
#: Most notifications that are answered together.
AT_ONCE = 500


class Waiter:
    """Turns the ends of tasks into futures.

    One thread listens on one connection for all of them. It subscribes before it reads, so that no end falls in
    between; whatever notification is lost all the same is made up for within ``HEAL_S``.

    Args:
        ledger: Where results are.
        settings: How this process is set up.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._lock = threading.Lock()
        self._expected: dict[str, list[Future[Result]]] = {}
        #: Tasks of which a future was cancelled. The listener unsubscribes: whoever cancels may be an event loop, which
        #: must not wait for the network.
        self._given_up: deque[str] = deque()
        self._pubsub = connect(settings).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, task_ids: Sequence[str]) -> list[Future[Result]]:
        """The futures of some tasks' results, in their order, in one round trip for all.

        Each belongs to its caller alone. Cancel one that is awaited no more: with a task's last one the listener
        unsubscribes from it.

        Raises:
            RecordMissing: No such task, or it has expired.
            StoreUnavailable: The ledger does not answer.
        """
        futures = [Future[Result]() for _ in task_ids]
        with self._lock:
            if self._closed.is_set():
                raise StoreUnavailable("The client is closed.")
            fresh = [task_id for task_id in dict.fromkeys(task_ids) if task_id not in self._expected]
            if fresh:
                with translated(self._settings.redis):
                    self._pubsub.subscribe(*map(self._channel, fresh))
            for task_id, future in zip(task_ids, futures, strict=True):
                self._expected.setdefault(task_id, []).append(future)
                future.add_done_callback(partial(self._note, task_id))
            self._listen()
        try:
            self._settle(fresh)
        except TtaError:
            for future in futures:
                future.cancel()
            raise
        return futures

    def close(self) -> None:
        """End the listener; futures that are still open end with an error."""
        with self._lock:
            self._closed.set()
        if self._thread is not None:
            self._thread.join()
        for futures in self._drop(list(self._expected)).values():
            _fail(futures, StoreUnavailable("The client was closed while a task was awaited."))
        self._pubsub.close()

    def _listen(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tta-waiter", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        healed = time.monotonic()
        while not self._closed.is_set():
            try:
                ended = self._heard()
                if time.monotonic() - healed > HEAL_S:
                    healed = time.monotonic()
                    ended = list(self._expected)
                self._answer(ended)
                self._sweep()
            except (redis.RedisError, TtaError):
                # Out of reach: whoever waits may have a timeout; we look again.
                self._closed.wait(TICK_S)

    def _heard(self) -> list[str]:
        """Wait a moment for a task to end; answer all that have, so that they can be read together."""
        heard: list[str] = []
        message = self._pubsub.get_message(timeout=TICK_S)
        while message is not None:
            heard.append(message["channel"].decode().rpartition("task:")[2])
            message = self._pubsub.get_message() if len(heard) < AT_ONCE else None
        return heard

    def _answer(self, task_ids: Sequence[str]) -> None:
        try:
            self._settle(task_ids)
        except (RecordMissing, RecordUnreadable):
            # One expired while it was awaited, or another version wrote it; the others are still to come.
            for task_id in task_ids:
                try:
                    self._settle([task_id])
                except (RecordMissing, RecordUnreadable) as error:
                    for futures in self._drop([task_id]).values():
                        _fail(futures, error)

    def _settle(self, task_ids: Sequence[str]) -> None:
        """Read what has become of some tasks, and tell whoever waits for those that ended."""
        found = zip(task_ids, self._ledger.results(task_ids), strict=True)
        results = {task_id: result for task_id, result in found if result is not None}
        for task_id, futures in self._drop(list(results)).items():
            for future in futures:
                if future.set_running_or_notify_cancel():
                    future.set_result(results[task_id])

    def _note(self, task_id: str, done: Future[Result]) -> None:
        if done.cancelled():
            self._given_up.append(task_id)

    def _sweep(self) -> None:
        """Wait no more for tasks whose futures were all cancelled."""
        while self._given_up:
            task_id = self._given_up.popleft()
            with self._lock:
                left = [future for future in self._expected.get(task_id, ()) if not future.cancelled()]
                if left:
                    self._expected[task_id] = left
                elif self._expected.pop(task_id, None) is not None:
                    self._unsubscribe([task_id])

    def _drop(self, task_ids: Sequence[str]) -> dict[str, list[Future[Result]]]:
        """Wait for some tasks no more; return the futures that were still open."""
        with self._lock:
            found = {task_id: self._expected.pop(task_id) for task_id in task_ids if task_id in self._expected}
            if found:
                self._unsubscribe(found)
            return found

    def _unsubscribe(self, task_ids: Iterable[str]) -> None:
        with contextlib.suppress(redis.RedisError):
            self._pubsub.unsubscribe(*map(self._channel, task_ids))

    def _channel(self, task_id: str) -> str:
        return f"{self._settings.key_prefix}task:{task_id}"


def _fail(futures: Iterable[Future[Result]], error: TtaError) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
