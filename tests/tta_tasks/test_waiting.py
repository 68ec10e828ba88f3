"""Waiting: nobody waits for ever, whatever becomes of a record."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis
from pydantic import SecretStr

from tta_tasks.errors import RecordMissing, RecordUnreadable, StoreUnavailable
from tta_tasks.ledger import Ledger
from tta_tasks.models import Component, Module, Status, TestingRequest, TestingResult
from tta_tasks.requests import record_of
from tta_tasks.settings import Settings
from tta_tasks.waiting import Waiter

COMPONENT = Component(name="calculator", modules=(Module(name="calculator", path="calculator.py"),))


def test_record_that_expires_while_it_is_awaited(valkey: redis.Redis, valkey_url: str) -> None:
    """Who waits for a record that expires is told so, and who waits for another one gets its result."""
    settings = Settings(broker_url=SecretStr(valkey_url))
    ledger = Ledger(valkey, settings)
    tasks = [record_of(TestingRequest(snapshot="0" * 64, component=COMPONENT), name) for name in ("gone", "kept")]
    ledger.accept(tasks)
    with closing(Waiter(ledger, settings)) as waiter:
        gone, kept = waiter.expect([task.id for task in tasks])
        valkey.delete("tta:task:gone")
        with pytest.raises(RecordMissing, match="No task gone"):
            gone.result(timeout=20)
        ledger.finish(tasks[1], TestingResult(status=Status.COMPLETED))
        assert kept.result(timeout=20).status is Status.COMPLETED


def test_record_that_cannot_be_read_hangs_nobody(valkey: redis.Redis, valkey_url: str) -> None:
    """Who waits for a result of a newer version is told so; who waits for another one gets it."""
    settings = Settings(broker_url=SecretStr(valkey_url))
    ledger = Ledger(valkey, settings)
    tasks = [record_of(TestingRequest(snapshot="0" * 64, component=COMPONENT), name) for name in ("newer", "kept")]
    ledger.accept(tasks)
    done = TestingResult(status=Status.COMPLETED)
    with closing(Waiter(ledger, settings)) as waiter:
        newer, kept = waiter.expect([task.id for task in tasks])
        valkey.hset("tta:task:newer", mapping={"status": "completed", "result": '{"kind": "testing", "version": 2}'})
        valkey.publish("tta:task:newer", "completed")
        ledger.finish(tasks[1], done)
        with pytest.raises(RecordUnreadable, match="task newer"):
            newer.result(timeout=20)
        assert kept.result(timeout=20) == done


def test_closed_waiter_takes_no_more(valkey: redis.Redis, valkey_url: str) -> None:
    """A call that comes while the client is closed ends with an error, and does not wait for ever."""
    settings = Settings(broker_url=SecretStr(valkey_url))
    ledger = Ledger(valkey, settings)
    ledger.accept([record_of(TestingRequest(snapshot="0" * 64, component=COMPONENT), "t")])
    waiter = Waiter(ledger, settings)
    (open_,) = waiter.expect(["t"])
    waiter.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        open_.result(timeout=20)
    with pytest.raises(StoreUnavailable, match="The client is closed"):
        waiter.expect(["t"])
