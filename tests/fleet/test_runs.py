"""Whole runs over real workers: order, degradation, loss, cancellation, priority."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import redis
from celery import chord

from tta_tasks.celery import app
from tta_tasks.errors import RecordMissing
from tta_tasks.models import Component, Mode, Module, Priority, Result, RunRecord, Stage, Status, Target, TestingRequest
from tta_tasks.queues import transport_priority
from tta_tasks.tasks import run_tests

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


def ends(record: RunRecord) -> dict[str, Status]:
    return {task.label: task.status for task in record.tasks}


def spans(record: RunRecord, *stages: Stage) -> list[tuple[float, float]]:
    return [(t.started_at or 0.0, t.finished_at or 0.0) for t in record.tasks if t.stage in stages]


def test_async_run_keeps_the_order_of_stages(fleet: Fleet) -> None:
    """Testing ends before generation and refactoring begin; collection waits for all of them; then the deployments."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one", "two", "three"]))
    assert record.status is Status.COMPLETED
    assert set(ends(record).values()) == {Status.COMPLETED}
    order = [
        spans(record, Stage.TESTING),
        spans(record, Stage.GENERATION, Stage.REFACTORING),
        spans(record, Stage.COLLECTION),
        spans(record, Stage.STAGING),
        spans(record, Stage.PRODUCTION),
    ]
    assert len(order[1]) == 4
    for earlier, later in pairwise(order):
        assert max(end for _, end in earlier) <= min(start for start, _ in later)


def test_sync_run_does_one_task_after_another(fleet: Fleet) -> None:
    """Without --async no two tasks overlap, whatever slots there are."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one", "two"], mode=Mode.SYNC))
    assert record.status is Status.COMPLETED
    taken = spans(record, *Stage)
    assert all(end <= start for (_, end), (start, _) in pairwise(taken))


@pytest.mark.slow
def test_sync_run_is_not_hurried_by_the_reconciler(fleet: Fleet) -> None:
    """Tasks that wait their turn for longer than the reconciler's patience are not taken for lost."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one_outlasts", "two_outlasts", "three"], mode=Mode.SYNC, target=Target.DEV))
    taken = sorted(spans(record, *Stage))
    assert all(end <= start for (_, end), (start, _) in pairwise(taken))
    assert [task.attempts for task in record.tasks] == [1] * len(record.tasks)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_module_that_fails_does_not_cost_the_run(fleet: Fleet, mode: Mode) -> None:
    """Failing and raising generators are reported; the others' work is collected and deployed."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one", "two_fails", "three_raises"], mode=mode))
    assert record.status is Status.COMPLETED
    failed = {task.label: task.result.error for task in record.tasks if task.result and task.result.error}
    assert {label: error.message for label, error in failed.items()} == {
        "generate two_fails": "It gave up.",
        "generate three_raises": "unforeseen",
    }
    assert failed["generate two_fails"].hint == "Try another one."


def test_failing_baseline_stops_the_run(fleet: Fleet) -> None:
    """When the component's own tests fail nothing else is begun, and every task still ends."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one"], name="broken"))
    assert record.status is Status.FAILED
    assert ends(record) == {
        "test": Status.FAILED,
        "generate one": Status.SKIPPED,
        "refactor": Status.SKIPPED,
        "collect": Status.SKIPPED,
        "deploy to staging": Status.SKIPPED,
        "deploy to production": Status.SKIPPED,
    }


def test_transient_fault_is_tried_again(fleet: Fleet) -> None:
    """A store that was out of reach once costs a second attempt, not the task."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one_unreachable_once"], target=Target.DEV))
    assert record.status is Status.COMPLETED
    assert {task.label: task.attempts for task in record.tasks}["generate one_unreachable_once"] == 2


@pytest.mark.slow
def test_what_a_worker_cannot_read_is_left_to_another(fleet: Fleet) -> None:
    """A result of a newer version, which a task needs, fails nothing: the task waits for a worker that can read it."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one_unreadable_once"], target=Target.DEV))
    task = next(task for task in record.tasks if task.label == "generate one_unreadable_once")
    assert (task.status, task.attempts, task.losses) == (Status.COMPLETED, 2, 0)


def test_pool_process_that_dies_costs_one_attempt(fleet: Fleet) -> None:
    """A task whose process dies is done again, and the callback comes."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one_dies_once"], target=Target.DEV))
    assert record.status is Status.COMPLETED
    assert {task.label: task.attempts for task in record.tasks}["generate one_dies_once"] == 2


def test_task_that_always_kills_its_process_is_given_up(fleet: Fleet) -> None:
    """A poisonous task ends as failed after a few losses, and the run goes on without it."""
    fleet.start()
    record = fleet.ended(fleet.submit(["one_dies", "two"], target=Target.DEV))
    assert record.status is Status.COMPLETED
    poisonous = next(task for task in record.tasks if task.label == "generate one_dies")
    assert poisonous.status is Status.FAILED
    assert poisonous.result is not None
    assert poisonous.result.error is not None
    assert "lost 3 times" in poisonous.result.error.message


def test_task_longer_than_the_visibility_timeout_runs_once(fleet: Fleet) -> None:
    """An 8 s task under a 3 s visibility timeout is started once, with another worker waiting for work."""
    fleet.start()
    fleet.start()
    record = fleet.ended(fleet.submit(["one_outlasts"], target=Target.DEV))
    assert {task.label: task.attempts for task in record.tasks}["generate one_outlasts"] == 1


def test_work_of_a_dead_host_is_done_elsewhere(fleet: Fleet, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """A worker killed in the middle of a task: another one does it, and the run completes."""
    first = fleet.start(slots=1)
    run_id = fleet.submit(["one_outlasts"], target=Target.DEV)
    eventually(lambda: "generate one_outlasts" in running(fleet, run_id))
    fleet.kill(first)
    fleet.start()
    record = fleet.ended(run_id)
    assert record.status is Status.COMPLETED
    assert {task.label: task.attempts for task in record.tasks}["generate one_outlasts"] == 2


def test_cancelled_run_ends(fleet: Fleet, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """A cancelled run's running task is told, its others are not begun, and all end."""
    fleet.start()
    run_id = fleet.submit(["one_waits"])
    eventually(lambda: "generate one_waits" in running(fleet, run_id))
    fleet.client.cancel_run(run_id)
    record = fleet.ended(run_id)
    assert record.status is Status.CANCELLED
    assert ends(record)["generate one_waits"] is Status.CANCELLED
    assert ends(record)["deploy to production"] is Status.CANCELLED


def test_critical_run_overtakes_a_backlog(fleet: Fleet) -> None:
    """With one slot and 20 LOW runs queued, a CRITICAL one submitted last has its first task done first."""
    low = [fleet.submit(target=Target.DEV, priority=Priority.LOW) for _ in range(20)]
    critical = fleet.submit(target=Target.DEV, priority=Priority.CRITICAL)
    fleet.start(slots=1)
    first = fleet.ended(critical).tasks[0].started_at or 0.0
    starts = [fleet.ended(run_id).tasks[0].started_at or 0.0 for run_id in low]
    assert all(first <= start for start in starts)


def test_inspect_shows_tasks_on_their_queues(fleet: Fleet, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """Celery's own inspection tells task, queue, priority and label, and nothing of the request."""
    fleet.start()
    run_id = fleet.submit(["one_waits"], priority=Priority.HIGH)
    eventually(lambda: "generate one_waits" in running(fleet, run_id))
    active = [task for tasks in (app.control.inspect(timeout=3).active() or {}).values() for task in tasks]
    shown: list[tuple[object, ...]] = [
        (t["name"], t["delivery_info"]["routing_key"], t["delivery_info"]["priority"], t["args"]) for t in active
    ]
    high = transport_priority(Priority.HIGH, fleet.client.transport)
    assert ("tta_tasks.generate_tests", "openhands", high, "('generate one_waits',)") in shown
    fleet.client.cancel_run(run_id)
    fleet.ended(run_id)


def test_nothing_is_left_in_the_broker(fleet: Fleet, valkey: redis.Redis) -> None:
    """After a run no message waits and none is unacknowledged."""
    fleet.start()
    fleet.ended(fleet.submit(["one", "two"]))
    time.sleep(0.5)  # the last acknowledgement follows the last end
    left = {key.decode() for key in valkey.scan_iter()} & {"tta:unacked", "tta:unacked_index", "tta:openhands"}
    assert left == set()


def running(fleet: Fleet, run_id: str) -> list[str]:
    return [task.label for task in fleet.client.ledger.run(run_id).tasks if task.status is Status.RUNNING]


def test_a_canvas_of_celery_s_own(fleet: Fleet) -> None:
    """A producer may compose declared tasks itself, requests included: its chord's callback sees them all."""
    fleet.start()
    component = Component(name="c", modules=(Module(name="one", path="one.py"),))
    request = TestingRequest(component=component, snapshot="0" * 64).model_dump(mode="json")
    header = [run_tests.si(request).set(task_id=f"part-{number}") for number in range(3)]
    chord(header, run_tests.si(request).set(task_id="callback")).apply_async()
    assert _until_known(fleet, "callback").ok
    assert all(fleet.client.status(f"part-{number}").status is Status.COMPLETED for number in range(3))


def _until_known(fleet: Fleet, task_id: str) -> Result:
    """The result of a task that is accepted by the worker only."""
    until = time.monotonic() + 30
    while True:
        try:
            return fleet.client.result(task_id, timeout=30)
        except RecordMissing:
            assert time.monotonic() < until
            time.sleep(0.05)
