"""What is seen of queues and workers, and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis

from tta_tasks.fleet import Fleet as View
from tta_tasks.fleet import QueueState
from tta_tasks.models import Priority

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


@pytest.fixture
def view(fleet: Fleet) -> View:
    return View(fleet.client.ledger, fleet.settings)


def queue(view: View, name: str) -> QueueState:
    return next(queue for queue in view.look().queues if queue.name == name)


@pytest.mark.parametrize("priority", list(Priority))
def test_oldest_message_of_a_queue_is_seen(fleet: Fleet, view: View, priority: Priority) -> None:
    """A message that waits is found in its queue at its priority; nobody takes it for lost however long it waits."""
    run = fleet.client.ledger.run(fleet.submit(["one"], priority=priority))
    fleet.submit(["two"], priority=priority)
    assert view.oldest("testing", priority) == run.tasks[0].id
    assert view.oldest("deployment", priority) is None
    waiting = {waiting.priority: waiting for waiting in queue(view, "testing").waiting}
    assert {name: found.count for name, found in waiting.items()} == {**dict.fromkeys(Priority, 0), priority: 2}
    oldest = waiting[priority].oldest_s
    assert oldest is not None
    assert 0 <= oldest < 30


def test_workers_say_what_they_take(fleet: Fleet, view: View, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """A worker is seen on its queues and no other, and no longer when it has ended."""
    assert queue(view, "testing").workers == ()
    worker = fleet.start(slots=2, queues=["testing", "openhands"])
    eventually(lambda: queue(view, "testing").slots == 2)
    assert [worker.name.partition("@")[0] for worker in queue(view, "openhands").workers] == ["test-0"]
    assert queue(view, "deployment").workers == ()
    worker.terminate()
    eventually(lambda: queue(view, "testing").workers == ())


def test_running_tasks_are_seen_with_their_lease(
    fleet: Fleet, view: View, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """While a task runs it is counted as running, with a young lease; when it has ended, no more."""
    fleet.start()
    run = fleet.submit(["one_waits"])
    eventually(lambda: queue(view, "openhands").running == 1)
    assert queue(view, "openhands").lease_age_s < fleet.settings.visibility_timeout_s
    fleet.client.cancel_run(run)
    fleet.ended(run)
    assert [(queue.open, queue.running) for queue in view.look().queues] == [(0, 0)] * 5


def test_what_became_of_tasks_is_counted(
    fleet: Fleet, view: View, valkey: redis.Redis, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Starts, ends, retries, losses and runs are counted once each, by stage and status; figures expire, too."""
    fleet.start()
    fleet.ended(fleet.submit(["one", "two_fails", "three_unreachable_once", "four_dies_once"]))
    fleet.ended(fleet.submit([], name="broken"))
    state = view.look()
    counted = {name: amount for name, amount in state.counters.items() if "seconds" not in name}
    assert counted == {
        "started:testing": 2,
        "started:generation": 6,
        "started:refactoring": 1,
        "started:collection": 1,
        "started:staging": 1,
        "started:production": 1,
        "redelivered:generation": 1,
        "lost:generation": 1,
        "retried:generation": 1,
        "ended:testing:completed": 1,
        "ended:testing:failed": 1,
        "ended:generation:completed": 3,
        "ended:generation:failed": 1,
        "ended:refactoring:completed": 1,
        "ended:refactoring:skipped": 1,
        "ended:collection:completed": 1,
        "ended:collection:skipped": 1,
        "ended:staging:completed": 1,
        "ended:staging:skipped": 1,
        "ended:production:completed": 1,
        "ended:production:skipped": 1,
        "runs:completed": 1,
        "runs:failed": 1,
    }
    runs = {name: count for name, count in state.counters.items() if name.startswith("run_seconds:completed:")}
    assert sum(count for name, count in runs.items() if not name.endswith(":sum")) == 1
    tasks = {name: count for name, count in state.counters.items() if name.startswith("task_seconds:generation:")}
    assert sum(count for name, count in tasks.items() if not name.endswith(":sum")) == 4
    assert state.counters["task_seconds:generation:sum"] > 0
    eventually(lambda: view.look().reconciled)
    assert all(valkey.ttl(f"tta:{key}") != -1 for key in ("counters", "running:openhands", "workers:testing"))
