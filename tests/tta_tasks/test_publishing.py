"""From records to messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tta_tasks import publishing
from tta_tasks.celery import app
from tta_tasks.client import TaskClient
from tta_tasks.models import Component, Module, Priority, TestingRequest
from tta_tasks.requests import record_of
from tta_tasks.settings import settings


@pytest.fixture
def broker(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    settings.cache_clear()
    app._after_fork()  # type: ignore[attr-defined]
    with TaskClient.connect():
        yield valkey


@pytest.mark.parametrize("label", ["test", 'says "hi" \\ to Zoë\'s\n'])
def test_rendered_message_is_the_one_that_celery_publishes(broker: redis.Redis, label: str) -> None:
    """But for its tag, and for whether the exchange is named, the list holds the same as after a publication."""
    component = Component(name="c", modules=(Module(name="m", path="m.py"),))
    task = record_of(TestingRequest(snapshot="0" * 64, component=component), "t1", Priority.HIGH)
    task = task.model_copy(update={"label": label})
    publishing.publish([task])
    published = json.loads(_popped(broker, "tta:testing:3"))
    own = {"id": task.id, "label": publishing.label_of(task)}
    parts = publishing.message_of(task.name, task.queue, task.priority)
    rendered = json.loads("".join(own[part] if number % 2 else part for number, part in enumerate(parts)))
    for message in (published, rendered):
        assert message["properties"].pop("delivery_tag")
        assert message["properties"].pop("reply_to")
    assert rendered == published


def _popped(broker: redis.Redis, key: str) -> bytes:
    found: Any = broker.rpop(key)
    return bytes(found)
