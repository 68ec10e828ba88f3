"""Tasks that are done on the message of another one (workers/process/delivery.py), by real workers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from tta_tasks.celery import app
from tta_tasks.ledger.worker_registry import MIN_WINDOW
from tta_tasks.models import RunRecord, Status, Target, TaskRecord
from workers.process.delivery import QUICK_IN_A_ROW

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

#: As many as are published at once, and those that follow on messages of their own until a process has seen enough.
#: On one slot the next is begun on the message of another.
QUICK = [f"quick{number:02}" for number in range(MIN_WINDOW + QUICK_IN_A_ROW - 1)]
NAME = "tta_tasks.generate_tests"


@pytest.fixture(autouse=True)
def _everything_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTA_QUICK_TASK_S", "5")


def done(fleet: Fleet, modules: Sequence[str]) -> RunRecord:
    """A run over ``modules``, ended."""
    record = fleet.ended(fleet.submit(modules, target=Target.DEV))
    assert record.status is Status.COMPLETED
    return record


def of(record: RunRecord, module: str) -> TaskRecord:
    """The task of a module."""
    return next(task for task in record.tasks if task.label == f"generate {module}")


def shared(task: TaskRecord) -> bool:
    """Whether the task was begun, the first time, on another's message."""
    return task.published_at == task.started_at


def messages() -> int:
    """How many messages for generation the worker has taken."""
    stats: Any = app.control.inspect(timeout=5, limit=1).stats()
    (worker,) = stats.values()
    return int(worker["total"][NAME])


def test_quick_tasks_share_messages(fleet: Fleet) -> None:
    """Each is done once, by name of the worker that does it, with fewer messages than there are tasks."""
    worker = fleet.start(slots=1)
    modules = [*QUICK, *(f"more{number:02}" for number in range(MIN_WINDOW))]
    record = done(fleet, modules)
    tasks = [of(record, module) for module in modules]
    assert {(task.status, task.attempts, task.worker) for task in tasks} == {(Status.COMPLETED, 1, tasks[0].worker)}
    assert [shared(task) for task in tasks[: len(QUICK) + 1]] == [False] * len(QUICK) + [True]
    assert messages() == sum(not shared(task) for task in tasks) < len(modules)
    assert worker.poll() is None


def test_each_task_has_its_message_while_somebody_listens(fleet: Fleet, eventually: Callable[..., None]) -> None:
    """Whoever watches Celery's events sees every task."""
    fleet.start(slots=1)
    eventually(lambda: bool(app.control.inspect(timeout=1, limit=1).ping()))
    app.control.enable_events(reply=True, limit=1, timeout=5)
    modules = [*QUICK, *(f"more{number:02}" for number in range(MIN_WINDOW))]
    done(fleet, modules)
    assert messages() == len(modules)


@pytest.mark.parametrize(
    ("module", "status", "attempts", "losses"),
    [
        ("odd_dies_once", Status.COMPLETED, 2, 1),
        ("odd_unreachable_once", Status.COMPLETED, 2, 0),
        ("odd_fails", Status.FAILED, 1, 0),
    ],
)
def test_fault_on_another_s_message_costs_what_it_costs_on_its_own(
    fleet: Fleet, module: str, status: Status, attempts: int, losses: int
) -> None:
    """A task that was begun without a message is given back, retried and failed like any; nothing else suffers."""
    fleet.start(slots=1)
    record = done(fleet, [*QUICK, module, "last"])
    odd = of(record, module)
    assert (odd.status, odd.attempts, odd.losses) == (status, attempts, losses)
    assert all(task.attempts == 1 for task in record.tasks if task.id != odd.id)


@pytest.mark.slow
def test_time_limit_ends_the_task_that_is_at_work(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a message kills the task that it has come to, and that one alone has failed."""
    monkeypatch.setenv("TTA_TASK_TIMEOUT_S", "10")
    monkeypatch.setenv("TTA_TASK_GRACE_S", "1")
    fleet.start(slots=1)
    record = done(fleet, [*QUICK, "odd_stays", "last"])
    assert [task.label for task in record.tasks if task.status is not Status.COMPLETED] == ["generate odd_stays"]
    assert (of(record, "odd_stays").attempts, shared(of(record, "odd_stays"))) == (1, True)


def test_task_that_is_not_quick_keeps_its_lease(fleet: Fleet, eventually: Callable[..., None]) -> None:
    """One that takes several lease times on another's message is done once, though another worker is idle."""
    fleet.start(slots=1)
    run_id = fleet.submit([*QUICK, "odd_outlasts", "last"], target=Target.DEV)
    eventually(lambda: of(fleet.client.ledger.run(run_id), "odd_outlasts").status is Status.RUNNING)
    fleet.start(slots=1)
    odd = of(fleet.ended(run_id), "odd_outlasts")
    assert (odd.status, odd.attempts, odd.losses, shared(odd)) == (Status.COMPLETED, 1, 0, True)


def test_operator_s_revoke_ends_the_task_that_is_at_work(fleet: Fleet, eventually: Callable[..., None]) -> None:
    """Who revokes the message that a worker shows ends the task it has come to, and that one alone."""
    fleet.start(slots=1)
    run_id = fleet.submit([*QUICK, "odd_sleeps_once", "last"], target=Target.DEV)
    eventually(lambda: of(fleet.client.ledger.run(run_id), "odd_sleeps_once").status is Status.RUNNING)
    active: Any = app.control.inspect(timeout=5, limit=1).active()
    ((shown,),) = active.values()
    app.control.revoke(shown["id"], terminate=True)
    record = fleet.ended(run_id)
    odd = of(record, "odd_sleeps_once")
    assert (odd.status, odd.attempts, shared(odd)) == (Status.CANCELLED, 1, True)
    assert shown["id"] != odd.id
    assert all(task.status is Status.COMPLETED for task in record.tasks if task.id != odd.id)


@pytest.mark.slow
def test_worker_that_is_shut_down_gives_back_the_task_that_is_at_work(
    fleet: Fleet, eventually: Callable[..., None]
) -> None:
    """Another worker does it, and no loss is counted."""
    worker = fleet.start(slots=1)
    run_id = fleet.submit([*QUICK, "odd_sleeps_once", "last"], target=Target.DEV)
    eventually(lambda: of(fleet.client.ledger.run(run_id), "odd_sleeps_once").status is Status.RUNNING)
    worker.send_signal(signal.SIGQUIT)
    fleet.start(slots=1)
    odd = of(fleet.ended(run_id), "odd_sleeps_once")
    assert (odd.status, odd.attempts, odd.losses, shared(odd)) == (Status.COMPLETED, 2, 0, False)
