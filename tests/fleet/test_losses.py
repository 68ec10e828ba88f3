"""Workers that are stopped, killed or sent home in the middle of something, and tasks that do not end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tta_tasks.celery import app
from tta_tasks.models import Component, GenerationRequest, Module, Status, Target

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = [pytest.mark.stack, pytest.mark.slow]

Eventually = Callable[[Callable[[], bool]], None]


def request(name: str) -> GenerationRequest:
    module = Module(name=name, path="m.py")
    return GenerationRequest(snapshot="0" * 64, component=Component(name="c", modules=(module,)), module=module)


def test_message_taken_by_a_worker_that_dies_before_it_holds_it(
    fleet: Fleet, valkey: redis.Redis, eventually: Eventually
) -> None:
    """A worker stopped between taking a message and writing down that it has it, then killed: the task still runs."""
    worker = fleet.start()
    assert fleet.client.result(fleet.client.submit(request("one")), timeout=30).status is Status.COMPLETED
    eventually(lambda: not valkey.exists("tta:unacked"))
    os.killpg(worker.pid, signal.SIGSTOP)
    # Its blocking read still waits at the server: one of these goes to it, and nobody else knows.
    ids = fleet.client.submit_many([request(f"m{number}") for number in range(3)])
    assert valkey.llen("tta:openhands:6") == 2
    assert not valkey.exists("tta:unacked")
    fleet.kill(worker)
    fleet.start()
    ended = dict(fleet.client.results(ids, timeout=60))
    assert {result.status for result in ended.values()} == {Status.COMPLETED}
    assert [fleet.client.status(task_id).attempts for task_id in ids] == [1, 1, 1]


def test_worker_that_died_while_it_gave_messages_back_holds_up_nobody(
    fleet: Fleet, valkey: redis.Redis, eventually: Eventually
) -> None:
    """What the dead had taken comes again within seconds, though the lock of who looks after it was left, too."""
    task_id = fleet.client.submit(request("one"))
    with app.connection_for_read() as dying:
        channel: Any = dying.default_channel
        channel.do_restore = False
        assert channel.basic_get("openhands")
        assert channel.client.lock(channel.unacked_mutex_key, timeout=channel.unacked_mutex_expire).acquire()
    assert valkey.exists("tta:unacked", "tta:unacked_mutex") == 2
    fleet.start()
    assert fleet.client.result(task_id, timeout=60).status is Status.COMPLETED
    eventually(lambda: not valkey.exists("tta:unacked"))


def test_hard_time_limit_does_not_cost_the_callback(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header task that ignores being asked to end is killed, fails once, and the chord's callback comes."""
    monkeypatch.setenv("TTA_TASK_TIMEOUT_S", "10")
    monkeypatch.setenv("TTA_TASK_GRACE_S", "1")
    fleet.start()
    record = fleet.ended(fleet.submit(["one_stays", "two"], target=Target.DEV))
    assert record.status is Status.COMPLETED
    stayed = next(task for task in record.tasks if task.label == "generate one_stays")
    assert (stayed.status, stayed.attempts) == (Status.FAILED, 1)
    assert stayed.result is not None
    assert stayed.result.error is not None
    assert stayed.result.error.message == "Killed after 11 s: it did not end when asked to."


def test_the_worker_s_time_limit_counts_not_the_producer_s(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that a patient producer handed in is asked to end when its worker's limit says so."""
    monkeypatch.setenv("TTA_TASK_TIMEOUT_S", "10")
    fleet.start()
    module = Module(name="one_waits", path="one_waits.py")
    component = Component(name="calculator", modules=(module,))
    task_id = fleet.client.submit(GenerationRequest(snapshot="0" * 64, component=component, module=module))
    result = fleet.client.result(task_id, timeout=60)
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.message == "Ended after 10 s."


def test_asked_to_end_a_worker_ends_what_it_does_first(fleet: Fleet, eventually: Eventually) -> None:
    """SIGTERM: the running task is completed and not begun by another worker, which does the next one."""
    worker = fleet.start(slots=1)
    running = fleet.client.submit(request("one_outlasts"))
    eventually(lambda: fleet.client.status(running).status is Status.RUNNING)
    waiting = fleet.client.submit(request("two"))
    os.kill(worker.pid, signal.SIGTERM)
    fleet.start()
    assert worker.wait(30) == 0
    assert fleet.client.status(running).status is Status.COMPLETED
    assert fleet.client.result(waiting, timeout=30).status is Status.COMPLETED
    assert [fleet.client.status(task_id).attempts for task_id in (running, waiting)] == [1, 1]


def test_worker_with_little_time_hands_its_work_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """With REMAP_SIGTERM=SIGQUIT a long task goes back after the soft shutdown, and counts as no loss."""
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    worker = fleet.start(slots=1)
    task_id = fleet.client.submit(request("one_sleeps_once"))
    eventually(lambda: fleet.client.status(task_id).status is Status.RUNNING)
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(40)
    assert fleet.client.status(task_id).status is Status.QUEUED
    fleet.start()
    assert fleet.client.result(task_id, timeout=30).status is Status.COMPLETED
    assert fleet.client.status(task_id).attempts == 2
    assert fleet.client.ledger.task(task_id).losses == 0
