"""Waiting: nobody waits for ever, whatever becomes of a record."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis
from pydantic import SecretStr

from tta_tasks.errors import RecordMissing
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
