"""Producers: submission, status, results, cancellation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tta_tasks.client import TaskClient
from tta_tasks.errors import QueueFull, RecordMissing, SettingsError, UsageError
from tta_tasks.models import Component, GenerationRequest, Module, Priority, Status
from tta_tasks.settings import settings
from tta_tasks.snapshot import take

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


def request(module: str = "one") -> GenerationRequest:
    """A request on its own; its module's name says what the task does."""
    found = Module(name=module, path=f"{module}.py")
    return GenerationRequest(snapshot="0" * 64, component=Component(name="calculator", modules=(found,)), module=found)


def test_submitted_task_is_accepted_at_once_and_done_later(fleet: Fleet) -> None:
    """Without a worker the id is there and the task queued; with one its result comes."""
    task_id = fleet.client.submit(request(), priority=Priority.HIGH)
    record = fleet.client.status(task_id)
    assert (record.status, record.queue, record.priority) == (Status.QUEUED, "openhands", "high")
    fleet.start()
    assert fleet.client.result(task_id, timeout=30).status is Status.COMPLETED
    assert fleet.client.result(task_id, timeout=0).status is Status.COMPLETED


def test_snapshot_is_stored_by_one_call(fleet: Fleet, tmp_path: Path) -> None:
    """A repository and its snapshot are stored under the same digest, and read back by it."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "one.py").write_text("x = 1\n")
    taken = take(tmp_path / "repository", max_bytes=1 << 20, max_files=10)
    assert fleet.client.store_snapshot(tmp_path / "repository") == fleet.client.store_snapshot(taken) == taken.digest
    assert fleet.client.fetch_artifact(taken.digest) == taken.data


def test_results_come_as_tasks_end(fleet: Fleet) -> None:
    """A slow task does not hold up the results of the others; asking twice answers twice."""
    ids = fleet.client.submit_many([request("one_outlasts"), *[request(f"m{number}") for number in range(20)]])
    fleet.start()
    order = [task_id for task_id, _ in fleet.client.results(ids, timeout=60)]
    assert sorted(order) == sorted(ids)
    assert order[-1] == ids[0]
    assert len(list(fleet.client.results(ids, timeout=5))) == 21


def test_same_idempotency_key_is_the_same_task(fleet: Fleet) -> None:
    """Submitting twice with one key gives one id, one message and one attempt."""
    first = fleet.client.submit(request(), idempotency_key="order 7")
    again = fleet.client.submit(request(), idempotency_key="order 7")
    assert first == again
    assert fleet.waiting("openhands") == 1
    fleet.start()
    fleet.client.result(first, timeout=30)
    assert fleet.client.submit(request(), idempotency_key="order 7") == first
    assert fleet.client.status(first).attempts == 1


def test_unknown_ids_and_wrong_timeouts_are_told(fleet: Fleet) -> None:
    """Ids that never were, negative timeouts and passed deadlines are one clear error each; 0 does not wait."""
    with pytest.raises(RecordMissing, match="never existed, or ended more than"):
        fleet.client.result("nope")
    with pytest.raises(RecordMissing):
        fleet.client.cancel("nope")
    task_id = fleet.client.submit(request())
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        fleet.client.result(task_id, timeout=0)
    with pytest.raises(UsageError, match="cannot be waited for"):
        fleet.client.result(task_id, timeout=-1)
    with pytest.raises(UsageError, match="deadline has passed"):
        fleet.client.submit(request(), deadline=time.time() - 1)
    with pytest.raises(UsageError, match="Only what has failed"):
        fleet.client.retry(task_id)


def test_cancelled_before_its_start_it_never_starts(fleet: Fleet) -> None:
    """A queued task that is cancelled ends at once, and no worker begins it."""
    task_id = fleet.client.submit(request())
    assert fleet.client.cancel(task_id) is Status.CANCELLED
    assert fleet.client.result(task_id, timeout=5).status is Status.CANCELLED
    fleet.start()
    other = fleet.client.submit(request())
    fleet.client.result(other, timeout=30)
    assert fleet.client.status(task_id).attempts == 0
    assert fleet.client.cancel(other) is Status.COMPLETED


def test_after_its_deadline_a_task_is_not_begun(fleet: Fleet) -> None:
    """Nor by the worker that gets its message before anybody has looked."""
    task_id = fleet.client.submit(request(), deadline=time.time() + 0.2)
    time.sleep(0.3)
    fleet.start()
    result = fleet.client.result(task_id, timeout=30)
    assert result.error is not None
    assert (result.status, result.error.message) == (Status.FAILED, "Not done before its deadline.")
    assert fleet.client.status(task_id).attempts == 0


def test_failed_task_can_be_retried(fleet: Fleet) -> None:
    """A retry is a new task; the failed one keeps its story."""
    fleet.start()
    task_id = fleet.client.submit(request("one_fails"))
    assert fleet.client.result(task_id, timeout=30).status is Status.FAILED
    again = fleet.client.retry(task_id)
    assert again != task_id
    assert fleet.client.result(again, timeout=30).status is Status.FAILED


def test_events_tell_a_task_from_start_to_end(fleet: Fleet) -> None:
    """The stream of a task on its own begins with its start and stops after its end."""
    fleet.start()
    task_id = fleet.client.submit(request())
    assert [event.what for event in fleet.client.events(task_id)] == ["running", "completed"]
    assert [event.what for event in fleet.client.events(task_id)] == ["running", "completed"]


@pytest.mark.usefixtures("fleet")
def test_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its limit a queue refuses clearly, and takes nothing of the batch."""
    monkeypatch.setenv("TTA_MAX_QUEUE_TASKS", "3")
    settings.cache_clear()
    client = TaskClient.connect()
    client.submit_many([request(), request()])
    with pytest.raises(QueueFull, match="2 open tasks; 2 more would be over its limit of 3"):
        client.submit_many([request(), request()])
    assert client.ledger.open_tasks("openhands") == 2


def test_large_request_is_refused(fleet: Fleet) -> None:
    """A request of 10 MB is refused before anything is written."""
    huge = request().model_copy(update={"engine": "x" * (10 << 20)})
    with pytest.raises(UsageError, match="TTA_MAX_REQUEST_BYTES"):
        fleet.client.submit(huge)


def test_no_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker the client says what to set."""
    monkeypatch.delenv("TTA_BROKER_URL", raising=False)
    settings.cache_clear()
    with pytest.raises(SettingsError, match="TTA_BROKER_URL"):
        TaskClient.connect()
