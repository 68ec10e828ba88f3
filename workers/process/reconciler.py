"""Sees to it that what was accepted ends.

A message can be lost: popped by a worker that was killed before it had written down that it holds it; published by
nobody, because the producer died after the ledger had accepted the task; dropped with its chord's count when a worker
was ended the hard way. The ledger still knows the task. One worker at a time, elected by a lock, looks after the tasks
that have not ended and publishes again what is neither waiting in its queue, held by a living worker, nor waiting for
other tasks. A copy too many does no harm: a task that has ended, or is being done, is not done again.

The same worker holds artifacts to their bound: what open tasks need is known to whoever looks after them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import redis
from celery import bootsteps

from tta_tasks import publishing, queues
from tta_tasks.connection import connect
from tta_tasks.errors import RecordMissing, RecordUnreadable, StoreUnavailable, TransientError, TtaError
from tta_tasks.fleet import Fleet, waiting_at_rabbitmq, waiting_since
from tta_tasks.ledger import GRACE_S, Ledger, TransitionResult
from tta_tasks.ledger.election import Election
from tta_tasks.models import Promotion, Status, TaskRecord
from tta_tasks.promotion import expiry, rejection
from tta_tasks.protocols import ArtifactStore
from tta_tasks.requests import LATE, failed
from tta_tasks.settings import Settings, settings
from tta_tasks.stores import open_store
from workers.process import artifact_gc

log = logging.getLogger(__name__)

#: Tasks looked after in one pass, for each queue.
BATCH = 500
#: How often artifacts are held to their bound, in intervals of the reconciler: above it, all open tasks are read.
EVICT_EVERY = 3
#: How long what cannot be read is left alone, in seconds.
UNREADABLE_S = 60.0
#: How long a worker is given to look at a parked task before the message is missed, in seconds.
LOOK_S = 60.0
NEEDS_EXPIRED = "A task whose result it needs has expired."


class Reconciler:
    """Looks after open tasks.

    Args:
        ledger: The ledger.
        client: The Redis of the ledger, for the election.
        settings: How this process is set up.
    """

    def __init__(self, ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
        self._ledger = ledger
        self._election = Election(client, settings, "reconciler", hold_s=3 * settings.reconcile_interval_s)
        self._settings = settings
        self._fleet = Fleet(ledger, settings)
        self._every = settings.reconcile_interval_s
        self._evict_at = 0.0
        #: Since when the oldest message waits at each queue's priority, ``None`` for none; for one pass.
        self._heads: dict[tuple[str, str], float | None] = {}

    def elected(self, name: str) -> bool:
        """Whether ``name`` is the one that reconciles now; it stays so for a few intervals."""
        return self._election.elected(name)

    def reconcile(self) -> int:
        """One pass over what is due; answers how many tasks were published again, ended, or left parked.

        Raises:
            StoreUnavailable: The ledger does not answer.
        """
        self._ledger.worker_registry.refresh_windows(queues.NAMES, self._every * 10)
        done = sum(self._look_after(queue) for queue in queues.NAMES)
        if time.monotonic() >= self._evict_at:
            self._evict_at = time.monotonic() + EVICT_EVERY * self._every
            self._evict()
        return done

    def _evict(self) -> None:
        try:
            if evicted := self._store.evict(lambda: artifact_gc.needed(self._ledger)):
                log.info("Removed %d artifacts that were not used for long, to make room.", evicted)
                self._ledger.count("evicted:artifacts", evicted)
        except RecordUnreadable as error:
            log.warning("No artifacts are removed, as it cannot be told which are needed: %s", error)

    def _look_after(self, queue: str) -> int:
        self._heads.clear()
        done, later = 0, []
        for task_id in self._ledger.due(queue, BATCH):
            with self._alone(queue, task_id):
                task = self._ledger.task(task_id)
                when = self._look(task)
                if when is None:
                    done += 1
                else:
                    later.append((task, when))
        self._ledger.defer(later)
        return done

    @contextlib.contextmanager
    def _alone(self, queue: str, task_id: str) -> Iterator[None]:
        """Put a task off that cannot be looked after; it must not keep the others from that.

        Raises:
            TransientError: A server is away: the others cannot be looked after either.
        """
        try:
            yield
        except RecordMissing:
            self._ledger.forget(queue, task_id)
            return
        except RecordUnreadable as error:
            log.error("%s", error)  # noqa: TRY400 - one line; a worker that can read it may be elected next
        except TransientError as error:
            if not isinstance(error.__cause__, redis.ResponseError):
                raise
            log.error("Task %s is not looked after: %s", task_id, error)  # noqa: TRY400 - one line
        except Exception:
            log.exception("Task %s is not looked after", task_id)
        self._ledger.postpone(queue, task_id, self._ledger.clock.now() + UNREADABLE_S)

    def _look(self, task: TaskRecord) -> float | None:
        """See to one task; answer when to look again, or ``None`` when something was done about it."""
        now = self._ledger.clock.now()
        if task.deadline is not None and now > task.deadline:
            self._end(task, LATE)
        elif task.status is Status.PARKED and task.promotion is not None:
            return self._look_at_parked(task, task.promotion, now)
        elif task.status is not Status.RUNNING:
            return self._look_at_queued(task, now)
        elif task.lease_until > now:
            return task.lease_until
        else:
            self._again(task, "its worker was lost")
        return None

    def _look_at_queued(self, task: TaskRecord, now: float) -> float | None:
        if task.unmet:
            return self._look_at_early(task, now)
        since = waiting_since(task)
        if now < since + GRACE_S:
            return since + GRACE_S
        if self._waits(task, since):
            return now + self._every
        self._again(task, "its message was lost")
        return None

    def _look_at_parked(self, task: TaskRecord, promotion: Promotion, now: float) -> float | None:
        due = min(promotion.due, promotion.soaked_at) if task.decision is not None else promotion.due
        if task.decision is not None and task.decision.outcome == "rejected":
            self._ledger.finish(task, failed(task.request, rejection(task.decision)))
        elif task.decision is None and promotion.expires_at is not None and now >= promotion.expires_at:
            self._ledger.finish(task, failed(task.request, expiry(promotion)))
        elif now < due:
            if self._kept(task):
                self._ledger.parking.defer(task, min(due, now + self._ledger.parking.look_s))
        elif task.published_at >= due and (now < task.published_at + LOOK_S or self._waits(task, task.published_at)):
            return now + self._every
        else:
            self._ledger.parking.publishing(task, now + LOOK_S)
            publishing.publish([task])
        return None

    def _kept(self, task: TaskRecord) -> bool:
        """See that what a parked task, or its report, needs does not expire; end a task that lacks some of it."""
        try:
            others = self._ledger.run(task.run_id).tasks if task.run_id else self._ledger.tasks(task.request.needs)
        except RecordMissing:
            self._end(task, NEEDS_EXPIRED)
            return False
        except RecordUnreadable as error:
            log.error("%s %s (%s) stays parked: %s", task.name, task.id, task.label, error)  # noqa: TRY400 - one line
            return True
        self._ledger.parking.keep(task, [other.id for other in others])
        results = (other.result.artifacts for other in others if other.result is not None)
        try:
            for digest in {task.request.snapshot, *itertools.chain.from_iterable(results)}:
                self._store.has(digest)  # asked for, it is kept longer
        except StoreUnavailable as error:
            log.warning("The artifacts of run %s may expire: %s", task.run_id, error)
        return True

    @cached_property
    def _store(self) -> ArtifactStore:
        return open_store(self._settings)

    def _look_at_early(self, task: TaskRecord, now: float) -> float | None:
        """See to a task that waits for others: what has not ended must not expire."""
        try:
            self._ledger.tasks(task.request.needs)
        except RecordMissing:
            self._end(task, NEEDS_EXPIRED)
            return None
        except RecordUnreadable as error:
            log.error("%s %s (%s) waits: %s", task.name, task.id, task.label, error)  # noqa: TRY400 - one line
        return now + self._settings.retention_s / 2

    def _waits(self, task: TaskRecord, since: float) -> bool:
        """Whether the task's message may still wait in its queue.

        Queues are first in, first out, within a priority: when even the oldest message there came later than this one
        should have, this one is gone.
        """
        if self._settings.transport != "redis":
            return bool(waiting_at_rabbitmq(task.queue))
        key = (task.queue, task.priority)
        if key not in self._heads:
            self._heads[key] = self._head(task)
        head = self._heads[key]
        return head is not None and head <= since + GRACE_S

    def _head(self, task: TaskRecord) -> float | None:
        oldest = self._fleet.oldest(task.queue, task.priority)
        if oldest is None:
            return None
        try:
            return waiting_since(self._ledger.task(oldest))
        except (RecordMissing, RecordUnreadable):
            return 0.0

    def _again(self, task: TaskRecord, why: str) -> None:
        if self._ledger.requeue(task, f"again: {why}", GRACE_S, lost=True) is TransitionResult.APPLIED:
            log.warning("%s %s (%s): %s; published again.", task.name, task.id, task.label, why)
            publishing.publish([task])

    def _end(self, task: TaskRecord, why: str) -> None:
        if self._ledger.finish(task, failed(task.request, TtaError(why))):
            log.error("%s %s (%s): %s", task.name, task.id, task.label, why)
            self._ledger.dead_letter(task, why)


class Reconciling(bootsteps.StartStopStep):
    """Worker step: a thread that reconciles while this worker is the elected one."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin, in a thread of its own: a slow broker must not hold up the worker."""
        self._thread = threading.Thread(target=self._run, args=(worker.hostname,), name="reconciler", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """End the thread; another worker is elected when the lock expires."""
        self._stopped.set()

    def _run(self, name: str) -> None:
        chosen = settings()
        reconciler = Reconciler(Ledger.connect(chosen), connect(chosen), chosen)
        while not self._stopped.wait(chosen.reconcile_interval_s):
            try:
                if reconciler.elected(name):
                    reconciler.reconcile()
            except TransientError as error:
                log.warning("Not reconciled: %s", error)
            except Exception:
                # Whatever it was: without this thread, what is lost stays lost.
                log.exception("Not reconciled")
