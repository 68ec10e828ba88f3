"""What was accepted and what became of it, in Redis.

Every task is written here before it is published. Keys, each expiring ``retention_s`` after its last change:

    <prefix>run:<id>       hash    plan, cancelled, created_at, tasks left, failed
    <prefix>task:<id>      hash    the fields of a TaskRecord; also a channel that tells each change of its status
    <prefix>baseline:<id>  hash    what a testing task has measured, module by module (baselines.py)
    <prefix>backlog:<run>:<queue>  list  its tasks that are ready, and follow as others end
    <prefix>events:<id>    stream  what happened in a run (or to a task without one), bounded
    <prefix>runs           zset    run ids by creation time, bounded
    <prefix>open:<queue>   zset    tasks that have not ended, by the time the reconciler should look after them
    <prefix>running:<queue>  zset  those of them that a worker is doing, by the end of their lease
    <prefix>parked:<queue>   zset  those of them that wait for their time, or for a person (parking.py), since when
    <prefix>workers:<queue>, window:<queue>  see worker_registry.py
    <prefix>durations:<component>  hash  module -> how long its tests took to generate, in seconds, bounded
    <prefix>ends           stream  runs and tasks that have ended, for observers (ends.py), bounded
    <prefix>dead           list    tasks that were given up, newest first, bounded
    <prefix>counters       hash    what became of all tasks (counters.py), bounded

A task's status only moves forward, and its first terminal status is final: transitions are Lua scripts
(the ``.lua`` files beside this one), each one atomic step, so that a message delivered twice cannot make two ends. They
make their keys from the prefix; so they need one Redis, not a cluster. Times are the server's
(tta_tasks/clock.py), in seconds since the epoch.

What a task waits for is counted down in the same step that ends the last task before it. Where the broker is the
ledger's own Redis (``_message`` is set), that step puts the task's message into its queue, too, and nothing can come
between. Another broker is told right after it, by whoever took the step, or by the reconciler where that one died in
between.

A run has only so many messages in a queue at a time (``window``: as many as keep its workers busy). What else is ready
waits in ``backlog``, and follows as tasks of that run end. So a run of a thousand modules does not stand before one of
three.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis

from tta_tasks import publishing
from tta_tasks.connection import connect, translated
from tta_tasks.errors import RecordMissing, RecordUnreadable
from tta_tasks.ledger import counters
from tta_tasks.ledger.baselines import Baselines
from tta_tasks.ledger.durability import Durability
from tta_tasks.ledger.ends import Ends
from tta_tasks.ledger.parking import Parking
from tta_tasks.ledger.pipelining import run_each
from tta_tasks.ledger.queries import Queries
from tta_tasks.ledger.records import from_hash
from tta_tasks.ledger.submission import Submission, dumped
from tta_tasks.ledger.worker_registry import MIN_WINDOW, WorkerRegistry
from tta_tasks.models import (
    Result,
    RunPlan,
    Stage,
    Status,
    TaskRecord,
    TestingResult,
)
from tta_tasks.settings import Settings

#: How long after its message should have been published a waiting task is looked after, in seconds.
GRACE_S = 10.0
#: Most dead letters kept.
MAX_DEAD = 1000
#: Most modules of a component whose durations are remembered.
MAX_DURATIONS = 20_000
#: Most runs forgotten when one is accepted.
FORGET_AT_ONCE = 3


class TransitionResult(StrEnum):
    """What became of a transition; all but the first leave the task as it was."""

    APPLIED = "applied"
    #: The task had already ended.
    ENDED = "ended"
    #: Another worker holds its lease.
    BUSY = "busy"
    UNKNOWN = "unknown"
    #: It waits for other tasks.
    WAITING = "waiting"
    #: Its run was cancelled.
    CANCELLED = "cancelled"
    #: A task that it needs did not end well.
    BLOCKED = "blocked"
    #: The message is for another kind of task.
    MISMATCH = "mismatch"
    #: Its deadline is over.
    LATE = "late"
    #: It can begin, once its promotion was checked.
    GATED = "gated"


@dataclass(frozen=True)
class BeginResult:
    """What became of the beginning of a task."""

    outcome: TransitionResult
    #: ``None`` when it is unknown.
    task: TaskRecord | None = None
    #: Which task that it needs did not end well, and how.
    blocked: str = ""


class Ledger(Queries):
    """The ledger of one installation.

    Every method raises :class:`~tta_tasks.errors.StoreUnavailable` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        #: Whether a message can be put into its queue by the step that makes its task ready.
        self._is_broker = settings.broker == settings.redis
        self._accept = self._script("accept", grace=GRACE_S)
        self._begin = self._script("begin")
        self._move = self._script("move")
        self._finish = self._script(
            "finish",
            max_ends=settings.max_ends,
            edges=" ".join(map(str, counters.EDGES)),
            min_window=MIN_WINDOW,
            grace=GRACE_S,
        )
        self._renew = self._script("renew")
        #: What testing tasks have measured, module by module.
        self.baselines = Baselines(client, settings)
        #: Tasks that wait without a worker.
        self.parking = Parking(client, settings)
        #: The workers of each queue.
        self.worker_registry = WorkerRegistry(client, settings)
        #: What has ended, for observers.
        self.ends = Ends(client, settings)
        self._durability = Durability(client, settings)

    @classmethod
    def connect(cls, settings: Settings) -> Ledger:
        """Open a ledger on the Redis of ``settings``. Connects on first use."""
        return cls(connect(settings), settings)

    # -- accepting -------------------------------------------------------------------------------------------------

    def accept(
        self,
        tasks: Sequence[TaskRecord],
        plan: RunPlan | None = None,
        after: Mapping[str, Sequence[str]] | None = None,
        *,
        delivered: bool = False,
        most_bytes: int | None = None,
    ) -> tuple[bool, ...]:
        """Write tasks down, and publish those that wait for no others.

        Tasks that belong together, by a plan or by their order, are written in one step, or none is; others some
        hundreds in a step.

        Args:
            tasks: In the order in which those that can begin at once are published.
            plan: Of their run; when it was created is written down in the ledger's time.
            after: Task -> tasks that end before it is published; without, those whose results it needs.
            delivered: Whether their messages are published already.
            most_bytes: Most bytes of a request, as JSON.

        Returns:
            For each task whether it is new; one that is already known is left as it is.

        Raises:
            UsageError: A request is larger; nothing is written.
            BrokerUnavailable: The broker does not answer; the tasks are accepted and published when it does.
        """
        if after is None:
            after = {task.id: task.request.needs for task in tasks}
        submission = Submission(tasks, dumped(tasks, most_bytes), after, self._prefix, self._is_broker)
        common = {"delivered": int(delivered)}
        batches = (common | batch for batch in submission.batches())
        if plan is not None:
            plan = plan.model_copy(update={"created_at": self.clock.now()})
        if plan is None and not any(submission.followers.values()):
            with translated(self._url):
                found = run_each(self._redis, self._accept, batches)
        else:
            found = self._at_once(batches, len(tasks), plan)
        answers: list[int] = [answer for batch in found for answer in batch]
        publishing.publish([task for task, answer in zip(tasks, answers, strict=True) if answer > 1])
        return tuple(map(bool, answers))

    def _at_once(self, batches: Iterable[Mapping[str, Any]], tasks: int, plan: RunPlan | None) -> list[Any]:
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            for batch in batches:
                self._accept(pipe, **batch)
            steps = len(pipe)
            if plan is not None:
                self._open(pipe, plan, tasks)
            found = pipe.execute()[:steps]
        if plan is not None:
            self._forget_oldest()
        return found

    def _open(self, pipe: redis.client.Pipeline, plan: RunPlan, tasks: int) -> None:
        key = self._run_key(plan.id)
        facts: dict[Any, Any] = {"cancelled": 0, "created_at": plan.created_at, "left": tasks}
        pipe.hset(key, mapping=facts | {"plan": plan.model_dump_json()})
        pipe.expire(key, self._settings.retention_s)
        pipe.zadd(f"{self._prefix}runs", {plan.id: plan.created_at})
        pipe.expire(f"{self._prefix}counters", self._settings.retention_s)

    def keeps(self) -> bool | None:
        """Whether what is accepted outlives the server's process; ``None`` where the server cannot tell."""
        return self._durability.keeps()

    def wait_until_durable(self) -> None:
        """Wait until everything written so far is on the server's disk, where the server can tell.

        Raises:
            StoreUnavailable: It is not there within ``submit_fsync_timeout_s``.
        """
        self._durability.wait_until_durable()

    def cancel(self, run_id: str) -> None:
        """Ask a run's running tasks to stop. Kept here, so that a worker that starts later knows, too.

        One that has ended stays as it is.

        Raises:
            RecordMissing: No such run, or it has expired.
        """
        with translated(self._url):
            left = cast("bytes | None", self._redis.hget(self._run_key(run_id), "left"))
            if left is None:
                raise self._no_run(run_id)
            if int(left) > 0:
                self._redis.hset(self._run_key(run_id), "cancelled", 1)

    # -- a task's life ---------------------------------------------------------------------------------------------

    def begin(
        self,
        task_id: str,
        name: str,
        worker: str,
        *,
        slots: int = 1,
        redelivered: bool = False,
        promoted: bool = False,
    ) -> BeginResult:
        """Record that ``worker`` begins a task, and take its lease.

        While somebody holds it the answer is ``BUSY``, even when the broker delivers the message again: it does so when
        a connection breaks, and the work goes on behind it.

        Args:
            task_id: The task.
            name: Name of the declared task that the message is for.
            worker: Node name of the worker.
            slots: How many tasks it does at once.
            redelivered: Whether the broker delivers its message again; counted.
            promoted: Whether its promotion was checked; without, a deployment is ``GATED`` and nothing changes.

        Raises:
            RecordUnreadable: Another version wrote it; it stays where it was.
        """
        with translated(self._url):
            answer = self._begin(
                task_id=task_id,
                name=name,
                worker=worker,
                slots=slots,
                start=uuid.uuid4().hex,
                redelivered=int(redelivered),
                promoted=int(promoted),
            )
        outcome = TransitionResult(answer[0].decode())
        if outcome is TransitionResult.UNKNOWN:
            return BeginResult(outcome)
        fields = _paired(answer[1])
        try:
            return BeginResult(outcome, from_hash(task_id, fields), fields.get(b"_blocked", b"").decode())
        except RecordUnreadable:
            if outcome is TransitionResult.APPLIED:  # a host that can read it may do it
                self._put_back(task_id, worker)
            raise

    def progress(self, task: TaskRecord, message: str) -> None:
        """Record what ``task`` is doing now."""
        self._transition(task.id, "progress", {}, payload=message[:200])

    def requeue(
        self, task: TaskRecord, why: str, delay_s: float, *, worker: str = "", lost: bool = False
    ) -> TransitionResult:
        """Record that ``task`` waits (again) for a worker; the reconciler looks after it in ``delay_s``.

        Args:
            task: The task.
            why: For a person.
            delay_s: In seconds.
            worker: Who gives it back; ``BUSY`` when that one is not doing it. Without, ``BUSY`` while anybody holds it.
            lost: Whether it, or its message, was lost.
        """
        counted = {f"{'lost' if lost else 'retried'}:{task.stage}": 1.0}
        return self._transition(
            task.id, Status.QUEUED, counted, worker=worker, payload=why[:200], delay_s=delay_s, lost=lost
        )

    def finish(self, task: TaskRecord, result: Result, worker: str = "") -> bool:
        """Record how ``task`` ended, and publish what waited for that.

        Returns:
            ``False`` when it had already ended; the first end stays.

        Raises:
            BrokerUnavailable: The broker does not answer; what waited is published when it does.
        """
        return self._finished(task, result, worker)[0]

    def finish_and_begin(
        self, task: TaskRecord, result: Result, worker: str, *, message: str, start: str, slots: int = 1
    ) -> tuple[bool, TaskRecord | None]:
        """Record how ``task`` ended, and that its worker goes on with the run's next one of its kind, if one waits.

        That one has no message of its own: :meth:`claimed_task` returns the one that is executed on a message.

        Args:
            task: The task.
            result: How it ended.
            worker: Node name of the worker.
            message: The task whose message the worker has.
            start: Names the start of the next one; the same when it is told again, for want of an answer.
            slots: How many tasks it does at once.

        Returns:
            Whether this was its end, and not another one before; and the task that was begun. A record that cannot be
            read is left to a worker that can.

        Raises:
            BrokerUnavailable: As of :meth:`finish`.
        """
        moved, following = self._finished(task, result, worker, start=start, message=message, slots=slots)
        if following is None:
            return moved, None
        try:
            return moved, from_hash(*following)
        except RecordUnreadable:
            self._put_back(following[0], worker)
            return moved, None

    def renew(self, tasks: Iterable[tuple[str, str]], worker: str) -> None:
        """Renew the leases on ``tasks`` (pairs of id and queue) that ``worker`` is running."""
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task_id, queue in tasks:
                self._renew(pipe, task_id=task_id, queue=queue, worker=worker)
            pipe.execute()

    def count(self, counter: str, amount: float) -> None:
        """Add to a counter (``counters.py``), ``name:label``."""
        with translated(self._url):
            self._redis.hincrbyfloat(f"{self._prefix}counters", counter, amount)

    # -- what the reconciler looks after -----------------------------------------------------------------------------

    def due(self, queue: str, limit: int) -> tuple[str, ...]:
        """Ids of tasks of ``queue`` that have not ended and should be looked after now."""
        with translated(self._url):
            found = self._redis.zrangebyscore(self._open_key(queue), "-inf", self.clock.now(), start=0, num=limit)
        return tuple(item.decode() for item in cast("list[bytes]", found))

    def defer(self, tasks: Iterable[tuple[TaskRecord, float]]) -> None:
        """Look after these tasks at the times beside them; those that ended meanwhile are left alone.

        They, and their runs, are kept longer: what has not ended does not expire.
        """
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for task, when in tasks:
                pipe.zadd(self._open_key(task.queue), {task.id: min(when, task.deadline or math.inf)}, xx=True)
                pipe.expire(self._task_key(task.id), self._settings.retention_s)
                pipe.expire(self._run_key(task.run_id or ""), self._settings.retention_s)
            pipe.execute()

    def postpone(self, queue: str, task_id: str, when: float) -> None:
        """Postpone the next check of a task whose record cannot be read here, unless another host has ended it."""
        with translated(self._url):
            self._redis.zadd(self._open_key(queue), {task_id: when}, xx=True)

    def forget(self, queue: str, task_id: str) -> None:
        """Do not look after a task whose record has expired."""
        with translated(self._url):
            self._redis.zrem(self._open_key(queue), task_id)
            self._redis.zrem(self._running_key(queue), task_id)
            self._redis.zrem(f"{self._prefix}parked:{queue}", task_id)

    def dead_letter(self, task: TaskRecord, why: str) -> None:
        """Append a task that was given up to the dead letters."""
        letter = task.model_copy(update={"progress": why}).model_dump_json(exclude={"request", "result"})
        with translated(self._url), self._redis.pipeline() as pipe:
            pipe.lpush(f"{self._prefix}dead", letter)
            pipe.ltrim(f"{self._prefix}dead", 0, MAX_DEAD - 1)
            pipe.expire(f"{self._prefix}dead", self._settings.retention_s)
            pipe.hincrby(f"{self._prefix}counters", f"dead:{task.stage}", 1)
            pipe.execute()

    def record_duration(self, component: str, module: str, seconds: float) -> None:
        """Record how long a module's generation took, so that the longest can begin first the next time."""
        key = f"{self._prefix}durations:{component}"
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, module, f"{seconds:.2f}")
            pipe.expire(key, self._settings.retention_s)
            pipe.hlen(key)
            if int(pipe.execute()[-1]) > MAX_DURATIONS:
                self._redis.delete(key)  # modules come and go; the next runs fill it again

    def _forget_oldest(self) -> None:
        """Remove the runs above ``max_runs``, oldest first, with all that is kept of them; not one that goes on."""
        runs = f"{self._prefix}runs"
        with translated(self._url):
            oldest = cast("list[bytes]", self._redis.zrange(runs, 0, -self._settings.max_runs - 1))
            # A few at a time: each new run makes room for more than itself.
            for run_id in [item.decode() for item in oldest[:FORGET_AT_ONCE]]:
                try:
                    record = self.run(run_id)
                except RecordMissing:
                    self._redis.zrem(runs, run_id)
                    continue
                except RecordUnreadable:
                    continue  # whether it goes on, those know that wrote it; it expires
                if record.status.terminal:
                    tasks = [self._task_key(task.id) for task in record.tasks]
                    measured = [self.baselines.key(task.id) for task in record.tasks if task.stage is Stage.TESTING]
                    self._redis.delete(self._run_key(run_id), f"{self._prefix}events:{run_id}", *measured, *tasks)
                    self._redis.zrem(runs, run_id)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _transition(
        self,
        task_id: str,
        new: str,
        counted: dict[str, float],
        *,
        worker: str = "",
        payload: str = "",
        delay_s: float = 0.0,
        lost: bool = False,
    ) -> TransitionResult:
        with translated(self._url):
            answer: bytes = self._move(
                task_id=task_id,
                status=str(new),
                worker=worker,
                payload=payload,
                delay=delay_s,
                lost=int(lost),
                counters=_flat(counted),
            )
        return TransitionResult(answer.decode())

    def _put_back(self, task_id: str, worker: str) -> None:
        """What was begun and cannot be read here waits again."""
        self._transition(task_id, Status.QUEUED, {}, worker=worker, delay_s=GRACE_S)

    def _finished(
        self, task: TaskRecord, result: Result, worker: str, *, start: str = "", message: str = "", slots: int = 1
    ) -> tuple[bool, tuple[str, dict[bytes, bytes]] | None]:
        """Whether the task ended with this, and id and fields of what was begun in its place.

        Args:
            task: The task.
            result: How it ended.
            worker: Who says so.
            start: To go on with another task: names its start.
            message: The task whose message the worker has.
            slots: How many tasks it does at once.
        """
        if isinstance(result, TestingResult) and result.suite is not None:
            self.baselines.put(task.id, result.suite)  # now: what waits for the end begins with it
        with translated(self._url):
            answer = self._finish(
                task_id=task.id,
                status=str(result.status),
                worker=worker,
                result=result.model_dump_json(),
                start=start,
                message_id=message,
                slots=slots,
                counters=_flat(counters.ended(task, result)),
            )
        if answer[1]:
            publishing.publish(self.tasks(task_id.decode() for task_id in answer[1]))
        following = (answer[2].decode(), _paired(answer[3])) if len(answer) > 2 else None  # noqa: PLR2004 - see finish.lua
        return answer[0] == TransitionResult.APPLIED.encode(), following

    def _running_key(self, queue: str) -> str:
        return f"{self._prefix}running:{queue}"


def _paired(fields: list[bytes]) -> dict[bytes, bytes]:
    """A hash, as scripts answer it."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _flat(counted: Mapping[str, float]) -> list[Any]:
    """Counters, as scripts take them."""
    return [part for pair in counted.items() for part in pair]
