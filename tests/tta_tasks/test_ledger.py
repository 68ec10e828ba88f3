"""The ledger: accepted work is written down whole, moves only forward, and ends once."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from pydantic import SecretStr

from orchestrator.local.broker import Broker
from tta_tasks.connection import without_password
from tta_tasks.errors import RecordMissing, StoreUnavailable
from tta_tasks.ledger import BeginResult, Ledger, TransitionResult
from tta_tasks.ledger.submission import BATCH
from tta_tasks.ledger.worker_registry import MIN_WINDOW
from tta_tasks.models import (
    Component,
    ErrorInfo,
    Gates,
    Mode,
    Module,
    ModuleCoverage,
    RunPlan,
    Status,
    SuiteReport,
    Target,
    TaskRecord,
    TestingRequest,
    TestingResult,
)
from tta_tasks.requests import record_of
from tta_tasks.settings import Settings

COMPONENT = Component(name="calculator", modules=(Module(name="calculator", path="calculator.py"),))
SNAPSHOT = "0" * 64


@pytest.fixture
def ledger(valkey: redis.Redis, valkey_url: str) -> Ledger:
    return Ledger(valkey, Settings(broker_url=SecretStr(valkey_url), max_runs=3))


def task(task_id: str = "t1", run_id: str | None = "r1") -> TaskRecord:
    return record_of(TestingRequest(run_id=run_id, snapshot=SNAPSHOT, component=COMPONENT), task_id)


def _coverage(path: str, covered: int) -> ModuleCoverage:
    return ModuleCoverage(path=path, statements=9, covered_statements=covered, branches=0, covered_branches=0)


SUITE = SuiteReport(passed=2, coverage=(_coverage("calculator/one.py", 3), _coverage("calculator/two.py", 9)))


def begin(ledger: Ledger, task: TaskRecord, worker: str, *, redelivered: bool = False) -> BeginResult:
    return ledger.begin(task.id, task.name, worker, redelivered=redelivered)


def plan(run_id: str = "r1", task_ids: tuple[str, ...] = ("t1",), created_at: float = 1.0) -> RunPlan:
    return RunPlan(
        id=run_id,
        created_at=created_at,
        title="Calculator",
        spec="calculator.md",
        repository="calculator",
        component=COMPONENT,
        target=Target.DEV,
        mode=Mode.SYNC,
        gates=Gates(coverage=50),
        snapshot=SNAPSHOT,
        task_ids=task_ids,
    )


def test_accepted_run_reads_back_whole(ledger: Ledger) -> None:
    """What was accepted is read back equal, plan, tasks and requests."""
    ledger.accept([task()], plan())
    record = ledger.run("r1")
    assert record.plan.model_copy(update={"created_at": plan().created_at}) == plan()
    assert [found.model_dump(exclude={"submitted_at", "published_at"}) for found in record.tasks] == [
        task().model_dump(exclude={"submitted_at", "published_at"})
    ]
    assert record.status is Status.QUEUED


def test_first_end_is_final(ledger: Ledger) -> None:
    """A task that ended neither starts, progresses nor ends again."""
    ledger.accept([task()], plan())
    assert begin(ledger, task(), "w1").outcome is TransitionResult.APPLIED
    assert ledger.finish(task(), TestingResult(status=Status.COMPLETED), "w1")
    assert begin(ledger, task(), "w2").outcome is TransitionResult.ENDED
    assert not ledger.finish(task(), TestingResult(status=Status.FAILED), "w2")
    ledger.progress(task(), "still here")
    record = ledger.task("t1")
    assert (record.status, record.worker, record.attempts, record.progress) == (Status.COMPLETED, "w1", 1, "")


def test_one_of_many_ends_wins(ledger: Ledger) -> None:
    """Of 16 workers that end one task at the same time, exactly one does."""
    ledger.accept([task()], plan())
    won: list[bool] = []
    ready = threading.Barrier(16)

    def end() -> None:
        ready.wait()
        won.append(ledger.finish(task(), TestingResult(status=Status.COMPLETED)))

    threads = [threading.Thread(target=end) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 1


def test_attempts_count_starts(ledger: Ledger) -> None:
    """A task started again after its worker was lost keeps its first start, and counts both."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    first = ledger.task("t1").started_at
    ledger.requeue(task(), "again", delay_s=0.0, worker="w1", lost=True)
    begin(ledger, task(), "w2")
    again = ledger.task("t1")
    assert (again.started_at, again.attempts, again.worker) == (first, 2, "w2")


def test_events_tell_what_happened_in_order(ledger: Ledger) -> None:
    """The stream holds every change in order, and reading on from a position gives only what is new."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    ledger.progress(task(), "checking out")
    first = ledger.events("r1")
    ledger.finish(task(), TestingResult(status=Status.COMPLETED), "w1")
    then = ledger.events("r1", after=first[-1][0])
    assert [(event.what, event.message) for _, event in first] == [("running", ""), ("progress", "checking out")]
    assert [event.what for _, event in then] == ["completed"]


def test_waiting_for_events_is_woken(ledger: Ledger) -> None:
    """A reader that waits for 60 s is woken by the first event."""
    ledger.accept([task()], plan())
    timer = threading.Timer(0.2, begin, (ledger, task(), "w1"))
    timer.start()
    assert [event.what for _, event in ledger.events("r1", wait_s=20)] == ["running"]
    timer.join()


def test_cancel_is_kept(ledger: Ledger) -> None:
    """The wish to stop is in the ledger, for workers that start later."""
    ledger.accept([task()], plan())
    assert not ledger.cancelled("r1")
    ledger.cancel("r1")
    assert ledger.cancelled("r1")


def test_oldest_runs_are_forgotten_first(ledger: Ledger, valkey: redis.Redis) -> None:
    """Of runs that ended only max_runs are kept, newest first, with nothing left of the others."""
    for number in range(5):
        found = task(f"t{number}", f"r{number}")
        ledger.accept([found], plan(f"r{number}", (found.id,), created_at=number))
        begin(ledger, found, "w1")
        ledger.finish(found, TestingResult(status=Status.COMPLETED, suite=SUITE), "w1")
    assert ledger.runs(10) == ("r4", "r3", "r2")
    left = {key.decode().rpartition(":")[2] for key in valkey.scan_iter("tta:*:[rt][0-9]")}
    assert left == {"r2", "r3", "r4", "t2", "t3", "t4"}


def test_a_baseline_is_read_module_by_module(ledger: Ledger) -> None:
    """What a testing task has measured of one module is there when it has ended, without that of the others."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    assert ledger.baselines.get("t1", "calculator/one.py") is None
    ledger.finish(task(), TestingResult(status=Status.COMPLETED, suite=SUITE), "w1")
    one, two = SUITE.coverage
    assert ledger.baselines.get("t1", one.path) == SUITE.model_copy(update={"coverage": (one,)})
    assert ledger.baselines.get("t1", two.path) == SUITE.model_copy(update={"coverage": (two,)})
    assert ledger.baselines.get("t1", "no/such.py") == SUITE.model_copy(update={"coverage": ()})


def test_a_run_that_goes_on_is_not_forgotten(ledger: Ledger) -> None:
    """However many came after it."""
    for number in range(5):
        ledger.accept([task(f"t{number}", f"r{number}")], plan(f"r{number}", (f"t{number}",), created_at=number))
    assert ledger.runs(10) == ("r4", "r3", "r2", "r1", "r0")
    assert ledger.run("r0").status is Status.QUEUED


def test_everything_expires(ledger: Ledger, valkey: redis.Redis) -> None:
    """No key of a run stays for ever."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    ledger.finish(task(), TestingResult(status=Status.COMPLETED, suite=SUITE))
    keys = [key for key in valkey.scan_iter("tta:*") if key not in {b"tta:runs", b"tta:testing:6"}]
    assert len(keys) == 5
    assert all(valkey.ttl(key) > 0 for key in keys)


def test_unknown_ids_are_told(ledger: Ledger) -> None:
    """Asking for what does not exist is one clear error."""
    with pytest.raises(RecordMissing, match="No task nope"):
        ledger.task("nope")
    with pytest.raises(RecordMissing, match="No run nope"):
        ledger.run("nope")
    with pytest.raises(RecordMissing, match="No run nope"):
        ledger.cancel("nope")


def test_result_reads_back_typed(ledger: Ledger) -> None:
    """A result comes back as its own type, with its error."""
    result = TestingResult(status=Status.FAILED, error=ErrorInfo(type="EngineFailed", message="no", hint="do"))
    ledger.accept([task()], plan())
    ledger.finish(task(), result)
    assert ledger.task("t1").result == result


def test_unreachable_redis_is_one_error_without_the_password() -> None:
    """A ledger whose Redis is down says so, and shows no password."""
    gone = Settings(broker_url=SecretStr("redis://:geheim@127.0.0.1:1/0"))
    with pytest.raises(StoreUnavailable) as caught:
        Ledger.connect(gone).runs()
    assert "redis://127.0.0.1:1/0 does not answer" in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@ss@host:1/0", "redis://host:1/0"),
        ("rediss://user:pw@host/1", "rediss://host/1"),
        ("redis://host", "redis://host"),
        ("", ""),
    ],
)
def test_without_password(url: str, shown: str) -> None:
    """No part of user or password is left."""
    assert without_password(url) == shown


def test_work_in_hand_is_not_begun_again(ledger: Ledger) -> None:
    """While a worker holds a task nobody else begins it, even if the broker delivers its message again."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    assert begin(ledger, task(), "w2", redelivered=True).outcome is TransitionResult.BUSY
    assert ledger.task("t1").worker == "w1"


def test_start_that_is_sent_twice_counts_once(ledger: Ledger, valkey: redis.Redis) -> None:
    """A start whose answer was lost with its connection, and that is sent again, is one start and no stranger."""
    ledger.accept([task()], plan())
    real = ledger._begin

    def twice(**arguments: Any) -> Any:  # noqa: ANN401 - as the script
        real(**arguments)
        return real(**arguments)

    ledger._begin = twice  # type: ignore[assignment]
    assert begin(ledger, task(), "w1").outcome is TransitionResult.APPLIED
    assert valkey.hget("tta:task:t1", "attempts") == b"1"


def test_only_who_has_it_gives_it_back(ledger: Ledger) -> None:
    """A worker that was taken for dead cannot put a task back that another one does by now; nor can the reconciler."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w2")
    assert ledger.requeue(task(), "late", delay_s=0.0, worker="w1") is TransitionResult.BUSY
    assert ledger.requeue(task(), "again", delay_s=0.0, lost=True) is TransitionResult.BUSY
    assert ledger.task("t1").status is Status.RUNNING
    assert ledger.requeue(task(), "again", delay_s=0.0, worker="w2", lost=True) is TransitionResult.APPLIED


def test_losses_are_counted_apart_from_retries(ledger: Ledger) -> None:
    """A task tried again after a fault has lost nothing; one whose process died has."""
    ledger.accept([task()], plan())
    begin(ledger, task(), "w1")
    ledger.requeue(task(), "again in 2 s", delay_s=0.0, worker="w1")
    begin(ledger, task(), "w1")
    ledger.requeue(task(), "its process was lost", delay_s=0.0, worker="w1", lost=True)
    assert (ledger.task("t1").attempts, ledger.task("t1").losses) == (2, 1)


def test_deadline_is_looked_after_however_alive_the_worker_is(ledger: Ledger) -> None:
    """A task past its deadline is due though its worker renews its lease."""
    late = task().model_copy(update={"deadline": time.time() + 0.2})
    ledger.accept([late], plan())
    begin(ledger, late, "w1")
    ledger.renew([(late.id, late.queue)], "w1")
    time.sleep(0.3)
    assert ledger.due(late.queue, 10) == ("t1",)


def test_what_has_not_ended_does_not_expire(ledger: Ledger, valkey: redis.Redis) -> None:
    """Each look of the reconciler keeps an open task, and its run, for another retention."""
    ledger.accept([task()], plan())
    valkey.expire("tta:task:t1", 5)
    valkey.expire("tta:run:r1", 5)
    ledger.defer([(task(), time.time() + 60)])
    assert min(valkey.ttl("tta:task:t1"), valkey.ttl("tta:run:r1")) > 1000


def test_server_without_a_disk_is_not_waited_for(ledger: Ledger, valkey: redis.Redis) -> None:
    """A server that keeps nothing on disk says so once, and is not asked again."""
    valkey.config_resetstat()
    ledger.wait_until_durable()
    ledger.wait_until_durable()
    assert valkey.info("commandstats")["cmdstat_waitaof"]["calls"] == 1


def test_handed_in_is_on_disk(tmp_path: Path) -> None:
    """What was secured is there again after the server was killed."""
    broker = Broker(tmp_path, port=0)
    broker.start()
    try:
        with redis.Redis.from_url(broker.url) as client:
            ledger = Ledger(client, Settings(broker_url=SecretStr(broker.url)))
            ledger.accept([task()], plan())
            ledger.wait_until_durable()
        assert broker.child is not None
        broker.child.process.kill()
        broker.child.process.wait()
        broker.start()
        with redis.Redis.from_url(broker.url) as client:
            assert client.hget("tta:task:t1", "status") == b"queued"
    finally:
        broker.stop()


def waiting(valkey: redis.Redis) -> list[str]:
    """Ids of the messages that wait in the testing queue, oldest first."""
    found: Any = valkey.lrange("tta:testing:6", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(found)]


def test_the_last_end_before_it_publishes_a_task(ledger: Ledger, valkey: redis.Redis) -> None:
    """Its message is in its queue with the step that ends the last of those it comes after, and not before."""
    after = {"a": (), "b": (), "c": ("a", "b")}
    ledger.accept([task(name) for name in "abc"], plan(task_ids=tuple("abc")), after)
    assert (waiting(valkey), ledger.task("c").unmet) == (["a", "b"], 2)
    assert begin(ledger, task("c"), "w1").outcome is TransitionResult.WAITING
    ledger.finish(task("b"), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey) == ["a", "b"]
    ledger.finish(task("a"), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey) == ["a", "b", "c"]
    assert begin(ledger, task("c"), "w1").outcome is TransitionResult.APPLIED


def test_tasks_may_come_after_one_that_was_accepted_before(ledger: Ledger, valkey: redis.Redis) -> None:
    """Its end publishes all of them, in however many steps and calls they were accepted."""
    ledger.accept([task("first", None)])
    ids = [str(number) for number in range(2 * BATCH)]
    for some in (ids[: BATCH + 1], ids[BATCH + 1 :]):
        ledger.accept([task(name, None) for name in some], after=dict.fromkeys(some, ("first",)))
    assert waiting(valkey) == ["first"]
    ledger.finish(task("first", None), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey) == ["first", *ids]


def test_a_bad_end_blocks_all_that_comes_after(ledger: Ledger) -> None:
    """What comes after a task that failed is not begun, nor what comes after that; the first cause is told."""
    ledger.accept([task(name) for name in "abc"], plan(task_ids=tuple("abc")), {"a": (), "b": ("a",), "c": ("b",)})
    ledger.finish(task("a"), TestingResult(status=Status.FAILED))
    assert begin(ledger, task("b"), "w1").outcome is TransitionResult.BLOCKED
    ledger.finish(task("b"), TestingResult(status=Status.SKIPPED))
    assert begin(ledger, task("c"), "w1").blocked == "'test' failed"


def test_task_after_one_that_is_not_known_is_blocked(ledger: Ledger) -> None:
    """What has expired cannot be waited for."""
    ledger.accept([task("a")], plan(task_ids=("a",)), {"a": ("gone",)})
    assert begin(ledger, task("a"), "w1").outcome is TransitionResult.BLOCKED


def test_task_is_not_begun_on_another_one_s_message(ledger: Ledger) -> None:
    """A queue's workers do only what is meant for it."""
    ledger.accept([task("a")])
    assert ledger.begin("a", "tta_tasks.deploy", "w1").outcome is TransitionResult.MISMATCH


def fan(ledger: Ledger, run_id: str, width: int) -> list[str]:
    """A run of one task and ``width`` that come after it, of which the first has ended."""
    ids = [f"{run_id}-{number}" for number in range(width + 1)]
    ledger.accept(
        [task(name, run_id) for name in ids],
        plan(run_id, tuple(ids)),
        {name: (ids[0],) if name != ids[0] else () for name in ids},
    )
    ledger.finish(task(ids[0], run_id), TestingResult(status=Status.COMPLETED))
    return ids[1:]


def test_large_run_does_not_stand_before_a_small_one(ledger: Ledger, valkey: redis.Redis) -> None:
    """A run has so many messages in a queue at a time; the rest follows, in order, as its tasks end."""
    large = fan(ledger, "large", 3 * MIN_WINDOW)
    small = fan(ledger, "small", 3)
    assert [name for name in waiting(valkey) if name in {*large, *small}] == [*large[:MIN_WINDOW], *small]
    ledger.finish(task(large[0], "large"), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey)[-2:] == [small[-1], large[MIN_WINDOW]]
    for name in large[1:]:
        ledger.finish(task(name, "large"), TestingResult(status=Status.COMPLETED))
    assert [name for name in waiting(valkey) if name in large] == large
    assert not valkey.keys("tta:backlog:*")
    assert all(ledger.task(name).status is Status.COMPLETED for name in large)


def test_window_grows_with_the_fleet(ledger: Ledger, valkey: redis.Redis) -> None:
    """A run fills all slots there are: with more of them, more of its tasks follow at the next end."""
    ids = fan(ledger, "large", 4 * MIN_WINDOW)
    ledger.worker_registry.register("w1", ["testing"], slots=MIN_WINDOW)
    ledger.worker_registry.refresh_windows(["testing"], 60)
    ledger.finish(task(ids[0], "large"), TestingResult(status=Status.COMPLETED))
    assert len([name for name in waiting(valkey) if name in ids]) == 2 * MIN_WINDOW + 1


def test_window_shrinks_with_the_fleet(ledger: Ledger, valkey: redis.Redis) -> None:
    """When workers go, no more of a run follows than the rest needs, and none of it is passed over."""
    ledger.worker_registry.register("w1", ["testing"], slots=MIN_WINDOW)
    ledger.worker_registry.refresh_windows(["testing"], 60)
    ids = fan(ledger, "large", 4 * MIN_WINDOW)
    ledger.worker_registry.deregister("w1", ["testing"], slots=MIN_WINDOW)
    ledger.worker_registry.refresh_windows(["testing"], 60)
    for number, name in enumerate(ids):
        assert name in waiting(valkey), f"{name} waits for nothing, and was not published"
        if number < MIN_WINDOW:
            assert len(waiting(valkey)) == 1 + 2 * MIN_WINDOW
        ledger.finish(task(name, "large"), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey)[1:] == ids
    assert valkey.hget("tta:run:large", "left") == b"0"


def test_cancelled_backlog_is_not_published(ledger: Ledger, valkey: redis.Redis) -> None:
    """What was ended while it waited in the backlog is passed over."""
    ids = fan(ledger, "large", MIN_WINDOW + 2)
    ledger.finish(task(ids[MIN_WINDOW], "large"), TestingResult(status=Status.CANCELLED))
    ledger.finish(task(ids[0], "large"), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey)[-1] == ids[-1]


def test_two_fans_of_a_run_share_its_place_in_a_queue(ledger: Ledger, valkey: redis.Redis) -> None:
    """What a second task releases waits behind what the first one did; all of it is published in the end, in order."""
    first, second = ([f"{name}{number}" for number in range(MIN_WINDOW + 3)] for name in "bd")
    ids = ["a", "c", *first, *second]
    after = {"a": (), "c": (), **dict.fromkeys(first, ("a",)), **dict.fromkeys(second, ("c",))}
    ledger.accept([task(name) for name in ids], plan(task_ids=tuple(ids)), after)
    for name in ("a", "c"):
        ledger.finish(task(name), TestingResult(status=Status.COMPLETED))
    for name in (*first, *second):
        assert name in waiting(valkey)
        ledger.finish(task(name), TestingResult(status=Status.COMPLETED))
    assert waiting(valkey) == ids
    assert not valkey.keys("tta:backlog:*")


def test_run_of_many_batches_is_accepted_in_one_step(ledger: Ledger, valkey: redis.Redis) -> None:
    """However many tasks it has, nobody sees a part of a run: all of it is one transaction."""
    ids = [str(number) for number in range(2 * BATCH + 1)]
    after = {name: () if name == "0" else ("0",) for name in ids}
    before: Any = valkey.info("commandstats")
    ledger.accept([task(name) for name in ids], plan(task_ids=tuple(ids)), after)
    stats: Any = valkey.info("commandstats")
    assert stats["cmdstat_exec"]["calls"] - before.get("cmdstat_exec", {"calls": 0})["calls"] == 1
    assert waiting(valkey) == ["0"]
    assert len(ledger.run("r1").tasks) == len(ids)


def go_on(ledger: Ledger, task_id: str, *, run_id: str = "large", start: str = "s") -> str | None:
    """End a task, and answer which one its worker goes on with."""
    ended = task(task_id, run_id)
    moved, following = ledger.finish_and_begin(ended, DONE, "w1", message=ended.id, start=start)
    assert moved
    return following.id if following else None


DONE = TestingResult(status=Status.COMPLETED)


def test_worker_goes_on_with_the_run_s_next_task(ledger: Ledger, valkey: redis.Redis) -> None:
    """The step that ends a task begins the next that waits for its turn; it has no message, and is held like any."""
    ids = fan(ledger, "large", MIN_WINDOW + 2)
    before = waiting(valkey)
    assert go_on(ledger, ids[0]) == ids[MIN_WINDOW]
    assert waiting(valkey) == before
    record = ledger.claimed_task(ids[0])
    assert (record.id, record.status, record.worker, record.attempts) == (ids[MIN_WINDOW], Status.RUNNING, "w1", 1)
    assert ledger.begin(record.id, record.name, "w2").outcome is TransitionResult.BUSY
    valkey.zadd("tta:running:testing", {record.id: 0.0})
    ledger.renew([(ids[0], "testing")], "w1")
    assert cast("float", valkey.zscore("tta:running:testing", record.id)) > time.time()
    assert ledger.requeue(ledger.claimed_task(ids[0]), "lost", 0, worker="w1", lost=True) is TransitionResult.APPLIED
    assert [event.what for _, event in ledger.events("large") if event.task_id == record.id] == ["running", "queued"]
    assert ledger.claimed_task(ids[1]).id == ids[1]


def test_worker_that_was_not_answered_goes_on_with_the_same_task(ledger: Ledger) -> None:
    """Told twice, an end begins one task; told by another worker, none."""
    ids = fan(ledger, "large", MIN_WINDOW + 2)
    assert go_on(ledger, ids[0]) == ids[MIN_WINDOW]
    for start, expected in (("s", ids[MIN_WINDOW]), ("another", None)):
        moved, following = ledger.finish_and_begin(task(ids[0], "large"), DONE, "w1", message=ids[0], start=start)
        assert not moved
        assert (following and following.id) == expected


def test_worker_that_was_answered_late_leaves_what_was_taken_for_lost(ledger: Ledger) -> None:
    """What waits for another worker since, or ended, is not done by this one as well."""
    ids = fan(ledger, "large", MIN_WINDOW + 2)
    assert go_on(ledger, ids[0]) == ids[MIN_WINDOW]
    ledger.requeue(ledger.claimed_task(ids[0]), "lost", 0, worker="w1", lost=True)
    assert ledger.claimed_task(ids[0]).id == ids[0]
    for _ in range(2):
        assert ledger.finish_and_begin(task(ids[0], "large"), DONE, "w1", message=ids[0], start="s") == (False, None)
        ledger.finish(task(ids[MIN_WINDOW], "large"), DONE)


def test_gated_task_is_not_begun_on_another_one_s_message(ledger: Ledger, valkey: redis.Redis) -> None:
    """Its preconditions are checked first; the field decides, not what kind of task it is."""
    ids = fan(ledger, "large", MIN_WINDOW + 1)
    for name in ids:
        valkey.hset(f"tta:task:{name}", "gated", "1")
    assert go_on(ledger, ids[0]) is None
    assert waiting(valkey)[-1] == ids[-1]


def test_run_keeps_its_place_when_a_worker_goes_on(ledger: Ledger, valkey: redis.Redis) -> None:
    """A task that was begun without a message makes no room for another one; when it ends, one follows."""
    ids = fan(ledger, "large", MIN_WINDOW + 3)
    assert go_on(ledger, ids[0]) == ids[MIN_WINDOW]
    ledger.finish(task(ids[MIN_WINDOW], "large"), DONE)
    assert waiting(valkey)[-1] == ids[MIN_WINDOW + 1]
    ledger.finish(task(ids[1], "large"), DONE)
    assert waiting(valkey)[-1] == ids[MIN_WINDOW + 2]
    for name in [*ids[2:MIN_WINDOW], *ids[MIN_WINDOW + 1 :]]:
        assert go_on(ledger, name) is None
    assert valkey.hget("tta:run:large", "left") == b"0"


def test_worker_goes_on_only_with_what_could_begin(ledger: Ledger, valkey: redis.Redis) -> None:
    """What is of another kind gets its message; so does all that is left of a cancelled run."""
    ids = fan(ledger, "large", MIN_WINDOW + 2)
    valkey.hset(f"tta:task:{ids[MIN_WINDOW]}", "name", "tta_tasks.collect")
    assert go_on(ledger, ids[0]) is None
    assert waiting(valkey)[-1] == ids[MIN_WINDOW]
    ledger.cancel("large")
    assert go_on(ledger, ids[1]) is None
    assert waiting(valkey)[-1] == ids[MIN_WINDOW + 1]
