"""Waiting for tasks to end, many at once, on one connection and without polling."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future

import redis

from tta_tasks.connection import connect, translated
from tta_tasks.errors import RecordMissing, StoreUnavailable, TtaError
from tta_tasks.ledger import Ledger
from tta_tasks.models import Result
from tta_tasks.settings import Settings

#: How long a lost notification may go unnoticed, in seconds.
HEAL_S = 2.0
#: How often the listener looks whether there is somebody new to listen for, in seconds.
TICK_S = 0.2


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
        self._expected: dict[str, Future[Result]] = {}
        self._pubsub = connect(settings).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, task_id: str) -> Future[Result]:
        """The future of a task's result.

        Raises:
            RecordMissing: No such task, or it has expired.
            StoreUnavailable: The ledger does not answer.
        """
        with self._lock:
            if (known := self._expected.get(task_id)) is not None:
                return known
            future = self._expected[task_id] = Future()
            future.set_running_or_notify_cancel()
            try:
                with translated(self._settings.redis):
                    self._pubsub.subscribe(self._channel(task_id))
            except StoreUnavailable:
                del self._expected[task_id]
                raise
            self._listen()
        try:
            self._read(task_id)
        except TtaError:
            self._drop(task_id)
            raise
        return future

    def close(self) -> None:
        """End the listener; futures that are still open end with an error."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        for task_id, future in list(self._expected.items()):
            self._drop(task_id)
            future.set_exception(StoreUnavailable("The client was closed while a task was awaited."))
        self._pubsub.close()

    def _listen(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tta-waiter", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        healed = time.monotonic()
        while not self._closed.is_set():
            try:
                message = self._pubsub.get_message(timeout=TICK_S)
                ended = [message["channel"].decode().rpartition("task:")[2]] if message else []
                if time.monotonic() - healed > HEAL_S:
                    healed = time.monotonic()
                    ended = list(self._expected)
                for task_id in ended:
                    self._answer(task_id)
            except (redis.RedisError, TtaError):
                # Out of reach: whoever waits may have a timeout; we look again.
                self._closed.wait(TICK_S)

    def _answer(self, task_id: str) -> None:
        try:
            self._read(task_id)
        except RecordMissing as error:
            # It expired while it was waited for; the others are still to come.
            future = self._drop(task_id)
            if future is not None:
                future.set_exception(error)

    def _read(self, task_id: str) -> None:
        record = self._ledger.task(task_id)
        if record.result is None:
            return
        future = self._drop(task_id)
        if future is not None:
            future.set_result(record.result)

    def _drop(self, task_id: str) -> Future[Result] | None:
        with self._lock:
            future = self._expected.pop(task_id, None)
            if future is not None:
                with contextlib.suppress(redis.RedisError):
                    self._pubsub.unsubscribe(self._channel(task_id))
            return future

    def _channel(self, task_id: str) -> str:
        return f"{self._settings.key_prefix}task:{task_id}"
