"""For producers: hand work in, get an id at once, ask for its status, await its result, stop it.

:class:`TaskClient` is for threads, :class:`AsyncTaskClient` has the same methods for asyncio. Both wait in the same way
(:mod:`tta_tasks.waiting`): subscribe, then read, then listen.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from celery.canvas import Signature

from tta_tasks import promotion
from tta_tasks.backend import quiet
from tta_tasks.celery import app, configuration
from tta_tasks.errors import (
    QueueFull,
    RecordUnreadable,
    SettingsError,
    StoreUnavailable,
    TransientError,
    TtaError,
    UsageError,
)
from tta_tasks.ledger import Ledger
from tta_tasks.models import AnyRequest, Decision, Event, Priority, Result, RunPlan, RunRecord, Status, TaskRecord
from tta_tasks.order import predecessors
from tta_tasks.protocols import ArtifactStore
from tta_tasks.requests import failed, record_of
from tta_tasks.settings import Settings, settings
from tta_tasks.snapshot import Snapshot, take
from tta_tasks.stores import open_store
from tta_tasks.waiting import Waiter

T = TypeVar("T")

#: Names tasks after their idempotency keys.
_KEYS = uuid.UUID("5f0ac1c3-7b0e-4d53-9a0f-2d7c53d6f0c1")


class TaskClient:
    """A producer's view of an installation.

    Use it as a context manager, or call :meth:`close`. Its methods may be called from several threads. Each of them
    raises :class:`~tta_tasks.errors.StoreUnavailable` when the ledger does not answer.

    Args:
        ledger: Where accepted work is written down.
        store: Where snapshots and patches are kept.
        settings: How this process is set up.
    """

    def __init__(self, ledger: Ledger, store: ArtifactStore, settings: Settings) -> None:
        self.ledger = ledger
        self.store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._waiter: Waiter | None = None
        self._process = os.getpid()

    @classmethod
    def connect(cls) -> Self:
        """A client of the installation that this process's settings name.

        It configures the process's Celery application; ``AsyncResult.get`` does not work beside it.

        Raises:
            SettingsError: No broker is named.
        """
        chosen = settings()
        if not chosen.broker:
            raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
        app.conf.update(configuration(chosen) | {"result_backend": quiet(chosen.redis)})
        backends: Any = app
        backends._backend = backends._get_backend()  # noqa: SLF001 - or the one of an earlier configuration would stay
        return cls(Ledger.connect(chosen), open_store(chosen), chosen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; calls that still wait end with an error."""
        self._after_fork()
        with self._lock:
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.close()

    # -- artifacts -------------------------------------------------------------------------------------------------

    def store_snapshot(self, source: Path | Snapshot) -> str:
        """Store a snapshot, so that requests can name it.

        Args:
            source: A snapshot, or the repository to take one of.

        Returns:
            Its digest.

        Raises:
            SnapshotError: The repository cannot be packed, or is above ``TTA_MAX_SNAPSHOT_BYTES``.
            ArtifactTooLarge: The snapshot is above the store's limit.
            StoreUnavailable: The store does not answer.
        """
        if isinstance(source, Path):
            limits = self._settings
            source = take(source, max_bytes=limits.max_snapshot_bytes, max_files=limits.max_snapshot_files)
        return self.store.put(source.data)

    def fetch_artifact(self, digest: str) -> bytes:
        """Return a stored artifact, such as the patch that a result names.

        Raises:
            ArtifactMissing: There is none of this digest, or it has expired.
            StoreUnavailable: The store does not answer.
        """
        return self.store.get(digest)

    # -- handing in ------------------------------------------------------------------------------------------------

    def submit(
        self,
        request: AnyRequest,
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_key: str | None = None,
        deadline: float | None = None,
    ) -> str:
        """Hand one task in.

        Args:
            request: What is wanted.
            priority: How urgent it is.
            idempotency_key: The same key gives the same id, and the work is done once.
            deadline: Epoch seconds; not done by then, it ends as failed.

        Returns:
            Its id.

        Raises:
            UsageError: The request is too large, or the deadline has passed.
            QueueFull: Too many tasks wait on its queue.
            BrokerUnavailable: The broker does not answer; the task is accepted and published when it does.
        """
        keys = None if idempotency_key is None else [idempotency_key]
        return self.submit_many([request], priority=priority, idempotency_keys=keys, deadline=deadline)[0]

    def submit_many(
        self,
        requests: Sequence[AnyRequest],
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_keys: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> list[str]:
        """Hand many tasks in, some hundreds a round trip; see :meth:`submit`.

        Returns:
            Their ids, in the order of ``requests``.
        """
        if deadline is not None:
            if not math.isfinite(deadline):
                raise UsageError(f"A deadline is a number of seconds since the epoch, not {deadline}.")
            if deadline <= time.time():
                raise UsageError("The deadline has passed already.", "It is a time in seconds since the epoch.")
            deadline = self.ledger.clock.of(deadline)
        ids = (
            [str(uuid.uuid4()) for _ in requests]
            if idempotency_keys is None
            else [str(uuid.uuid5(_KEYS, key)) for key in idempotency_keys]
        )
        records = [
            record_of(request, task_id, priority, deadline) for request, task_id in zip(requests, ids, strict=True)
        ]
        self._admit(records)
        with _naming(ids):
            self.ledger.accept(records, most_bytes=self._settings.max_request_bytes)
            self.ledger.wait_until_durable()
        return ids

    def submit_run(self, plan: RunPlan, tasks: Sequence[TaskRecord], canvas: Signature[Any]) -> str:
        """Hand a run in; errors as of :meth:`submit`.

        Args:
            plan: What is wanted.
            tasks: Its tasks, each after those that it comes after.
            canvas: Their order: :func:`~tta_tasks.order.predecessors` of Celery's primitives.

        Returns:
            The run's id.
        """
        self._admit(tasks)
        with _naming([plan.id]):
            self.ledger.accept(tasks, plan, predecessors(canvas), most_bytes=self._settings.max_request_bytes)
            self.ledger.wait_until_durable()
        return plan.id

    def retry(self, task_id: str) -> str:
        """Hand a task that failed, or was cancelled, in once more, as a new task.

        Returns:
            The new task's id.

        Raises:
            RecordMissing: No such task.
            UsageError: It has not ended, or was done.
        """
        record = self.ledger.task(task_id)
        if not record.status.terminal or record.status is Status.COMPLETED:
            raise UsageError(f"Task {task_id} is {record.status}.", "Only what has failed can be retried.")
        return self.submit(record.request, priority=record.priority)

    # -- asking ----------------------------------------------------------------------------------------------------

    def status(self, task_id: str) -> TaskRecord:
        """The task as it stands now, without waiting.

        Raises:
            RecordMissing: No such task, or it has expired.
        """
        return self.ledger.task(task_id)

    def result(self, task_id: str, timeout: float | None = None) -> Result:
        """Wait for a task's result.

        Args:
            task_id: The task.
            timeout: Seconds; 0 answers only if it has ended. ``None`` waits as long as it takes.

        Raises:
            RecordMissing: No such task, or it has expired.
            TimeoutError: It has not ended in time; it goes on.
            UsageError: ``timeout`` is negative.
        """
        _check(timeout)
        future = self.future(task_id)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"Task {task_id} has not ended within {timeout} s; it goes on.") from None

    def results(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[tuple[str, Result]]:
        """Wait for several tasks, and yield id and result as they end; errors as of :meth:`result`."""
        _check(timeout)
        ids = list(task_ids)
        futures = dict(zip(self.waiter.expect(ids), ids, strict=True))
        try:
            for future in as_completed(futures, timeout):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()

    def future(self, task_id: str) -> Future[Result]:
        """Return the future of a task's result; ``cancel()`` it to stop waiting, which leaves the task alone.

        Raises:
            RecordMissing: No such task, or it has expired.
        """
        return self.waiter.expect([task_id])[0]

    def events(self, stream: str, poll_interval: float = 2.0) -> Iterator[Event]:
        """What happens in a run, or to a task on its own, from its beginning to its end.

        Raises:
            RecordMissing: Neither a run nor a task has this id.
        """
        for happened in _batches(self.ledger, stream, poll_interval):
            yield from happened

    def watch(self, run_id: str, poll_interval: float = 2.0, patience: float = 60.0) -> Iterator[RunRecord]:
        """Yield the run's record now, after each change, and at last when it is terminal.

        Waits on the run's event stream; ``poll_interval`` (s) is how long a lost notification may go unnoticed. A
        record is yielded at least that often, so that a view can keep its clocks running. A ledger that does not answer
        is waited for, up to ``patience`` (s).

        Raises:
            RecordMissing: No such run.
        """
        record = self.ledger.run(run_id)
        position, answered = "0", time.monotonic()
        while True:
            yield record
            if record.status.terminal:
                return
            try:
                happened = self.ledger.events(run_id, after=position, wait_s=poll_interval)
                record = self._renewed(record, {event.task_id for _, event in happened})
            except StoreUnavailable:
                if time.monotonic() - answered > patience:
                    raise
                time.sleep(poll_interval)
            else:
                position, answered = happened[-1][0] if happened else position, time.monotonic()

    # -- stopping --------------------------------------------------------------------------------------------------

    def cancel_run(self, run_id: str) -> None:
        """Stop a run: what waits ends at once, what runs at its next sign of life; one that has ended stays as it is.

        Raises:
            RecordMissing: No such run, or it has expired.
            RecordUnreadable: Another version wrote a part of it. It is asked to stop all the same, and ends where that
                can be read.
        """
        try:
            record = self.ledger.run(run_id)
        except RecordUnreadable:
            self.ledger.cancel(run_id)
            raise
        if record.status.terminal:
            return
        self.ledger.cancel(run_id)
        for task in reversed(record.tasks):  # what comes after another one ends before that could publish it
            if task.status in {Status.QUEUED, Status.PARKED}:
                self.cancel(task.id)

    def cancel(self, task_id: str) -> Status:
        """Stop a task: at once while it waits, at its next sign of life while it runs.

        Returns:
            Its status now; one that had ended keeps its end.

        Raises:
            RecordMissing: No such task, or it has expired.
        """
        record = self.ledger.task(task_id)
        if not record.status.terminal:
            self.ledger.finish(record, failed(record.request, TtaError("It was cancelled."), Status.CANCELLED))
        return self.ledger.task(task_id).status

    # -- deciding --------------------------------------------------------------------------------------------------

    def approve(self, run_id: str, *, by: str = "", reason: str = "") -> tuple[Decision, bool]:
        """Let a run's parked deployment go on, once what else it waits for has come.

        Args:
            run_id: The run.
            by: Who approves, for the record; by default ``user@host``.
            reason: Why, for the record.

        Returns:
            The decision that counts, and whether it is this one: of two approvals the first does.

        Raises:
            RecordMissing: No such run, or it has expired.
            UsageError: Nothing is to be approved, or it was rejected.
            BrokerUnavailable: It is approved; it goes on when the broker is back.
        """
        return promotion.decide(self.ledger, run_id, "approved", by=by, reason=reason)

    def reject(self, run_id: str, *, by: str = "", reason: str = "") -> tuple[Decision, bool]:
        """End a run's parked deployment as failed; see :meth:`approve`."""
        return promotion.decide(self.ledger, run_id, "rejected", by=by, reason=reason)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def transport(self) -> str:
        """The kind of broker: ``redis`` or ``amqp``."""
        return self._settings.transport

    @property
    def waiter(self) -> Waiter:
        """What listens for the ends of tasks: one for all threads of a process."""
        self._after_fork()
        with self._lock:
            if self._waiter is None:
                self._waiter = Waiter(self.ledger, self._settings)
            return self._waiter

    def _after_fork(self) -> None:
        """In a process that was forked, leave behind what belongs to its parent: threads do not come along."""
        if self._process != os.getpid():
            self._process, self._lock, self._waiter = os.getpid(), threading.Lock(), None

    def _admit(self, records: Sequence[TaskRecord]) -> None:
        """Refuse what its queue has no room for."""
        room = self._settings.max_queue_tasks
        for queue in {record.queue for record in records}:
            more = sum(record.queue == queue for record in records)
            waiting = self.ledger.open_tasks(queue)
            if waiting + more > room:
                raise QueueFull(
                    f"Queue {queue} has {waiting} open tasks; {more} more would be over its limit of {room}.",
                    "Try again later, start more workers on it, or raise TTA_MAX_QUEUE_TASKS.",
                )

    def _renewed(self, record: RunRecord, changed: set[str]) -> RunRecord:
        """``record`` with the changed tasks read again; with none, all that have not ended."""
        stale = [task.id for task in record.tasks if (task.id in changed if changed else not task.status.terminal)]
        fresh = {task.id: task for task in self.ledger.tasks(stale)}
        tasks = tuple(fresh.get(task.id, task) for task in record.tasks)
        return record.model_copy(update={"tasks": tasks, "cancelled": self.ledger.cancelled(record.plan.id)})


class AsyncTaskClient:
    """:class:`TaskClient` for asyncio: the same methods, none of which blocks the event loop.

    To cancel a call stops the waiting, not the work: what was being submitted may be accepted, tasks go on.

    Args:
        client: What does the work; this object closes it.
    """

    def __init__(self, client: TaskClient) -> None:
        self.sync = client

    @classmethod
    def connect(cls) -> Self:
        """A client of the installation that this process's settings name; see :meth:`TaskClient.connect`."""
        return cls(TaskClient.connect())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See :meth:`TaskClient.close`."""
        await asyncio.to_thread(self.sync.close)

    # -- artifacts -------------------------------------------------------------------------------------------------

    async def store_snapshot(self, source: Path | Snapshot) -> str:
        """See :meth:`TaskClient.store_snapshot`."""
        return await asyncio.to_thread(self.sync.store_snapshot, source)

    async def fetch_artifact(self, digest: str) -> bytes:
        """See :meth:`TaskClient.fetch_artifact`."""
        return await asyncio.to_thread(self.sync.fetch_artifact, digest)

    # -- handing in ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        request: AnyRequest,
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_key: str | None = None,
        deadline: float | None = None,
    ) -> str:
        """See :meth:`TaskClient.submit`."""
        return await asyncio.to_thread(
            self.sync.submit, request, priority=priority, idempotency_key=idempotency_key, deadline=deadline
        )

    async def submit_many(
        self,
        requests: Sequence[AnyRequest],
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_keys: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> list[str]:
        """See :meth:`TaskClient.submit_many`."""
        return await asyncio.to_thread(
            self.sync.submit_many,
            requests,
            priority=priority,
            idempotency_keys=idempotency_keys,
            deadline=deadline,
        )

    async def submit_run(self, plan: RunPlan, tasks: Sequence[TaskRecord], canvas: Signature[Any]) -> str:
        """See :meth:`TaskClient.submit_run`."""
        return await asyncio.to_thread(self.sync.submit_run, plan, tasks, canvas)

    async def retry(self, task_id: str) -> str:
        """See :meth:`TaskClient.retry`."""
        return await asyncio.to_thread(self.sync.retry, task_id)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def status(self, task_id: str) -> TaskRecord:
        """See :meth:`TaskClient.status`."""
        return await asyncio.to_thread(self.sync.status, task_id)

    async def result(self, task_id: str, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - documented
        """See :meth:`TaskClient.result`."""
        _check(timeout)
        future = await self.future(task_id)
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise TimeoutError(f"Task {task_id} has not ended within {timeout} s; it goes on.") from None

    async def results(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,  # noqa: ASYNC109 - documented
    ) -> AsyncIterator[tuple[str, Result]]:
        """See :meth:`TaskClient.results`."""
        _check(timeout)
        ids = list(task_ids)

        async def named(task_id: str, future: asyncio.Future[Result]) -> tuple[str, Result]:
            return task_id, await future

        futures = await self._expect(ids)
        awaited = [asyncio.create_task(named(*pair)) for pair in zip(ids, futures, strict=True)]
        try:
            for ended in asyncio.as_completed(awaited, timeout=timeout):
                yield await ended
        finally:
            for task in awaited:
                task.cancel()

    async def future(self, task_id: str) -> asyncio.Future[Result]:
        """Return the future of a task's result, to be awaited; see :meth:`TaskClient.future`."""
        return (await self._expect([task_id]))[0]

    async def events(self, stream: str, poll_interval: float = 2.0) -> AsyncIterator[Event]:
        """See :meth:`TaskClient.events`."""
        async with aclosing(_in_thread(_batches(self.sync.ledger, stream, poll_interval))) as batches:
            async for happened in batches:
                for event in happened:
                    yield event

    async def watch(self, run_id: str, poll_interval: float = 2.0, patience: float = 60.0) -> AsyncIterator[RunRecord]:
        """See :meth:`TaskClient.watch`."""
        async with aclosing(_in_thread(self.sync.watch(run_id, poll_interval, patience))) as records:
            async for record in records:
                yield record

    # -- stopping --------------------------------------------------------------------------------------------------

    async def cancel_run(self, run_id: str) -> None:
        """See :meth:`TaskClient.cancel_run`."""
        await asyncio.to_thread(self.sync.cancel_run, run_id)

    async def cancel(self, task_id: str) -> Status:
        """See :meth:`TaskClient.cancel`."""
        return await asyncio.to_thread(self.sync.cancel, task_id)

    # -- deciding --------------------------------------------------------------------------------------------------

    async def approve(self, run_id: str, *, by: str = "", reason: str = "") -> tuple[Decision, bool]:
        """See :meth:`TaskClient.approve`."""
        return await asyncio.to_thread(self.sync.approve, run_id, by=by, reason=reason)

    async def reject(self, run_id: str, *, by: str = "", reason: str = "") -> tuple[Decision, bool]:
        """See :meth:`TaskClient.reject`."""
        return await asyncio.to_thread(self.sync.reject, run_id, by=by, reason=reason)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def transport(self) -> str:
        """See :attr:`TaskClient.transport`."""
        return self.sync.transport

    async def _expect(self, task_ids: Sequence[str]) -> list[asyncio.Future[Result]]:
        """The futures of some tasks' results. To cancel one unsubscribes from its task."""
        asked = asyncio.get_running_loop().run_in_executor(None, self.sync.waiter.expect, task_ids)
        try:
            futures = [asyncio.wrap_future(future) for future in await asyncio.shield(asked)]
            await asyncio.sleep(0)  # those of tasks that have ended are done from here on, also for a timeout of 0
            return futures  # noqa: TRY300 - a cancellation while it sleeps counts, too
        except asyncio.CancelledError:
            asked.add_done_callback(_give_up)  # the thread goes on, and its futures would be nobody's
            raise


def _give_up(asked: asyncio.Future[list[Future[Result]]]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        for future in asked.result():
            future.cancel()


def _batches(ledger: Ledger, stream: str, poll_interval: float) -> Iterator[list[Event]]:
    """The events of a stream in batches; an empty one after ``poll_interval`` (s), so that a reader can stop."""
    position = "0"
    while True:
        ended = _ended(ledger, stream)
        happened = ledger.events(stream, after=position, wait_s=0.0 if ended else poll_interval)
        yield [event for _, event in happened]
        if ended and not happened:
            return
        position = happened[-1][0] if happened else position


def _ended(ledger: Ledger, stream: str) -> bool:
    try:
        return ledger.run(stream).status.terminal
    except TtaError:
        return ledger.task(stream).status.terminal


async def _in_thread(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield what a blocking iterator yields, read in a thread of its own.

    The thread is none of the loop's: a few iterators that wait would keep all other calls waiting. When the iteration
    is given up, it ends after the item that it waits for, so items must keep coming.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="tta-stream")
    loop = asyncio.get_running_loop()
    try:
        while (item := await loop.run_in_executor(reader, next, items, None)) is not None:
            yield item
    finally:
        reader.shutdown(wait=False)


@contextmanager
def _naming(ids: Sequence[str]) -> Iterator[None]:
    """Let an error name what may have been accepted before it."""
    try:
        yield
    except TransientError as error:
        error.ids = tuple(ids)
        raise


def _check(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise UsageError(f"A timeout of {timeout} s cannot be waited for.", "Give 0 or more, or None to wait for ever.")
