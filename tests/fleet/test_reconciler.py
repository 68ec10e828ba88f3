"""What the reconciler does about odd records; nothing that works on them runs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import redis

from tta_tasks.errors import RecordUnreadable, TtaError
from tta_tasks.ledger import GRACE_S
from tta_tasks.models import Component, GenerationRequest, GenerationResult, Module, Status, TaskRecord
from tta_tasks.requests import record_of
from tta_tasks.settings import settings
from tta_tasks.stores import open_store
from workers.process import lost_tasks
from workers.process.reconciler import Reconciler

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack
#: Long ago: whatever was accepted then is due.
PAST_S = 10 * GRACE_S


def accepted(
    fleet: Fleet, valkey: redis.Redis, task_id: str, needs: tuple[str, ...] = (), snapshot: str = "0" * 64
) -> TaskRecord:
    """A task that was accepted long ago, and whose message nobody has."""
    module = Module(name="one", path="one.py")
    request = GenerationRequest(
        snapshot=snapshot, component=Component(name="c", modules=(module,)), module=module, needs=needs
    )
    record = record_of(request, task_id)
    fleet.client.ledger.accept([record])
    valkey.delete("tta:openhands:6")
    valkey.hset(f"tta:task:{task_id}", "published_at", time.time() - PAST_S)
    valkey.zadd("tta:open:openhands", {task_id: time.time() - PAST_S})
    return record


@pytest.fixture
def reconciler(fleet: Fleet, valkey: redis.Redis) -> Reconciler:
    return Reconciler(fleet.client.ledger, valkey, fleet.settings)


def test_lost_message_is_published_again(fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis) -> None:
    """A task that nobody has and no queue holds gets a message; the next pass leaves it alone."""
    accepted(fleet, valkey, "lost")
    assert reconciler.reconcile() == 1
    assert fleet.waiting("openhands") == 1
    assert fleet.client.status("lost").progress == "again: its message was lost"
    assert reconciler.reconcile() == 0
    assert fleet.waiting("openhands") == 1


@pytest.mark.parametrize("field", ["request", "status"])
def test_unreadable_record_keeps_no_other_from_being_looked_after(
    fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis, field: str
) -> None:
    """It is put off, not forgotten; what is due beside it is seen to, and reading it is one error, told."""
    accepted(fleet, valkey, "odd")
    accepted(fleet, valkey, "lost")
    valkey.hset("tta:task:odd", field, "of another version")
    assert reconciler.reconcile() == 1
    assert fleet.waiting("openhands") == 1
    assert fleet.client.ledger.due("openhands", 10) == ()
    assert fleet.client.ledger.open_tasks("openhands") == 2
    with pytest.raises(RecordUnreadable, match="The record of task odd cannot be read here"):
        fleet.client.status("odd")


#: Field of a record -> what is wrong with it.
BAD = {
    "deadline": "nan",
    "lease_until": "inf",
    "published_at": "-inf",
    "attempts": "x",
    "unmet": "many",
    "priority": "urgentest",
    "queue": "\xff",
    "request": "[" * 50_000,
    "promotion": "{",
    "result": '{"status": NaN}',
}


def test_bad_records_keep_no_other_from_being_looked_after(
    fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is named once and put off; a key that is no record at all is, too, and so is a fault that nobody foresaw."""
    for field, value in BAD.items():
        accepted(fleet, valkey, f"bad-{field}")
        valkey.hset(f"tta:task:bad-{field}", field, value.encode("latin-1"))
    for task_id, status in (("no-hash", ""), ("parked-for-nothing", "parked"), ("run-away", "queued")):
        accepted(fleet, valkey, task_id)
        valkey.hset(f"tta:task:{task_id}", mapping={"status": status or "queued", "run_id": "nowhere"})
    valkey.delete("tta:task:no-hash")
    valkey.set("tta:task:no-hash", "text")
    accepted(fleet, valkey, "lost")
    reconciler.reconcile()
    waiting = [json.loads(message)["headers"]["id"] for message in valkey.lrange("tta:openhands:6", 0, -1)]
    assert "lost" in waiting
    assert not {each for each in waiting if each.startswith("bad") or each == "no-hash"}
    for name in (*(f"bad-{field}" for field in BAD), "no-hash"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    assert fleet.client.ledger.due("openhands", 100) == ()


def test_unreadable_record_ends_no_worker_whose_process_was_lost(
    fleet: Fleet, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """What became of its task cannot be written down; that is told, and left to the reconciler."""
    accepted(fleet, valkey, "odd")
    valkey.hset("tta:task:odd", "request", "of another version")
    lost_tasks.give_back("odd", "w1", "its process was lost", lost=True)
    lost_tasks.end("odd", TtaError("It was revoked."))
    assert caplog.text.count("odd: what became of it was not written down") == 2


def test_task_that_needs_an_unreadable_one_waits(fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis) -> None:
    """It is neither published nor ended: whoever can read what it needs may be elected next."""
    accepted(fleet, valkey, "odd")
    accepted(fleet, valkey, "next", needs=("odd",))
    valkey.hset("tta:task:odd", "status", "of another version")
    assert reconciler.reconcile() == 0
    assert fleet.waiting("openhands") == 0
    assert fleet.client.status("next").status is Status.QUEUED
    assert fleet.client.ledger.due("openhands", 10) == ()


def test_unreadable_record_at_the_head_of_a_queue_counts_as_waiting(
    fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis
) -> None:
    """Whether the message of a task behind it was lost cannot be told, so it is not published again."""
    for task_id in ("head", "behind"):
        accepted(fleet, valkey, task_id)
    assert reconciler.reconcile() == 2
    assert fleet.waiting("openhands") == 2
    valkey.zadd("tta:open:openhands", {"behind": time.time() - 1})
    valkey.hset("tta:task:behind", "published_at", time.time() - PAST_S)
    valkey.hset("tta:task:head", "request", "of another version")
    assert reconciler.reconcile() == 0
    assert fleet.waiting("openhands") == 2


def test_task_whose_need_has_expired_ends(fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis) -> None:
    """It fails, says why, and leaves a dead letter."""
    accepted(fleet, valkey, "gone")
    accepted(fleet, valkey, "next", needs=("gone",))
    valkey.delete("tta:task:gone")
    assert reconciler.reconcile() == 1
    ended = fleet.client.status("next")
    assert ended.status is Status.FAILED
    assert ended.result is not None
    assert ended.result.error is not None
    assert ended.result.error.message == "A task whose result it needs has expired."
    assert valkey.llen("tta:dead") == 1


def test_task_whose_record_has_expired_is_forgotten(fleet: Fleet, reconciler: Reconciler, valkey: redis.Redis) -> None:
    """Nothing is published for it, and nobody looks after it again."""
    accepted(fleet, valkey, "gone")
    valkey.delete("tta:task:gone")
    assert reconciler.reconcile() == 0
    assert fleet.waiting("openhands") == 0
    assert fleet.client.ledger.open_tasks("openhands") == 0


def test_artifacts_that_open_tasks_need_stay(
    fleet: Fleet, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound go old artifacts that nobody needs; not a waiting task's snapshot, nor what it waits to use."""
    monkeypatch.setenv("TTA_ARTIFACT_BYTES", "1")
    settings.cache_clear()
    store = open_store(settings())
    snapshot, patch, unneeded = (store.put(data) for data in (b"snapshot", b"patch", b"unneeded"))
    before = accepted(fleet, valkey, "before")
    fleet.client.ledger.finish(before, GenerationResult(status=Status.COMPLETED, patch=patch))
    waits = accepted(fleet, valkey, "waits", needs=("before",), snapshot=snapshot)
    valkey.zadd("tta:artifacts", dict.fromkeys((snapshot, patch, unneeded), time.time() - PAST_S))
    Reconciler(fleet.client.ledger, valkey, settings()).reconcile()
    assert [valkey.exists(f"tta:artifact:{digest}") for digest in (snapshot, patch, unneeded)] == [1, 1, 0]
    fleet.client.ledger.finish(waits, GenerationResult(status=Status.COMPLETED))
    valkey.zadd("tta:artifacts", dict.fromkeys((snapshot, patch), time.time() - PAST_S))
    Reconciler(fleet.client.ledger, valkey, settings()).reconcile()
    assert valkey.zcard("tta:artifacts") == 0
