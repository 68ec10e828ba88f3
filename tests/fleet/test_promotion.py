"""Runs that park before production: no slot, no process and no message holds them, and nothing loses them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from orchestrator import workflow
from orchestrator.local.broker import Broker
from tta_tasks.client import TaskClient
from tta_tasks.environments import Environments
from tta_tasks.errors import UsageError
from tta_tasks.fleet import Fleet as View
from tta_tasks.models import Component, GenerationRequest, Module, Stage, Status, TaskRecord

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet, Site

pytestmark = pytest.mark.stack

Eventually = Callable[[Callable[[], bool]], None]
#: Seconds; long enough to do something meanwhile.
SOAK = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Broker]:
    """A Valkey that keeps its data on disk."""
    broker = Broker(tmp_path, port=0)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def valkey_url(server: Broker) -> str:
    return server.url


def production(fleet: Fleet, run_id: str) -> TaskRecord:
    return next(task for task in fleet.client.ledger.run(run_id).tasks if task.stage is Stage.PRODUCTION)


def staging(fleet: Fleet, run_id: str) -> TaskRecord:
    return next(task for task in fleet.client.ledger.run(run_id).tasks if task.stage is Stage.STAGING)


def waits_for(fleet: Fleet, run_id: str) -> str:
    task = production(fleet, run_id)
    return task.promotion.waits_for if task.status is Status.PARKED and task.promotion else ""


def told(fleet: Fleet, run_id: str) -> list[str]:
    """What the events say of production."""
    task_id = production(fleet, run_id).id
    happened = [event for _, event in fleet.client.ledger.events(run_id) if event.task_id == task_id]
    return [f"{event.what} {event.message}".strip() for event in happened]


def error(task: TaskRecord) -> str:
    assert task.result is not None
    assert task.result.error is not None
    return task.result.error.message


def test_a_parked_run_takes_no_slot_and_outlives_workers_and_redis(
    fleet: Fleet, site: Site, server: Broker, eventually: Eventually
) -> None:
    """While it waits the only slot does other work; worker and Redis are killed and come back; approved, it goes on."""
    site.ask(approval=True)
    worker = fleet.start(slots=1)
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    assert fleet.client.ledger.run(run_id).status is Status.PARKED
    module = Module(name="other", path="m.py")
    other = GenerationRequest(snapshot="0" * 64, component=Component(name="c", modules=(module,)), module=module)
    assert fleet.client.result(fleet.client.submit(other), timeout=30).status is Status.COMPLETED
    queue = next(each for each in View(fleet.client.ledger, fleet.settings).look().queues if each.name == "deployment")
    assert (queue.parked, queue.running, queue.open) == (1, 0, 1)
    assert fleet.waiting("deployment") == 0

    fleet.kill(worker)
    time.sleep(1.1)  # the server's disk has what it had a second ago
    assert server.child is not None
    os.killpg(server.child.process.pid, signal.SIGKILL)
    server.child.process.wait()
    server.start()
    assert production(fleet, run_id).status is Status.PARKED
    fleet.start(slots=1)
    decision, ours = fleet.client.approve(run_id, by="ada@example", reason="seen")
    record = fleet.ended(run_id)
    assert record.status is Status.COMPLETED
    assert ours
    assert production(fleet, run_id).decision == decision
    assert (decision.by, decision.reason) == ("ada@example", "seen")
    assert told(fleet, run_id) == [
        "parked waits for approval",
        "approved by ada@example: seen",
        "running",
        "completed",
    ]
    assert View(fleet.client.ledger, fleet.settings).look().queues[-1].parked == 0


def test_a_gate_that_asks_for_a_person_parks_the_first_deployment(
    fleet: Fleet, site: Site, eventually: Eventually
) -> None:
    """Staging, which has no rule, waits for approval; once approved, production asks nobody again."""
    site.ask()
    fleet.start(slots=1)
    run_id = fleet.submit(["one"], name="calculator-asks")
    eventually(lambda: staging(fleet, run_id).status is Status.PARKED)
    terms = staging(fleet, run_id).promotion
    assert terms is not None
    assert (terms.waits_for, terms.after, terms.approval) == ("approval", None, True)
    decision, _ = fleet.client.approve(run_id, by="ada@example", reason="AC3 is fine")
    record = fleet.ended(run_id)
    assert record.status is Status.COMPLETED
    assert staging(fleet, run_id).decision == decision
    assert (production(fleet, run_id).promotion, production(fleet, run_id).decision) == (None, None)


def test_what_a_gate_parked_can_be_rejected(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """Rejected, neither environment gets the tree."""
    site.ask()
    fleet.start(slots=1)
    run_id = fleet.submit(["one"], name="calculator-asks")
    eventually(lambda: staging(fleet, run_id).status is Status.PARKED)
    fleet.client.reject(run_id, by="ada@example", reason="AC3 is missing")
    assert fleet.ended(run_id).status is Status.FAILED
    assert error(staging(fleet, run_id)) == "Rejected by ada@example: AC3 is missing"
    assert production(fleet, run_id).status is Status.SKIPPED


def test_a_soak_ends_by_itself(fleet: Fleet, site: Site) -> None:
    """Without approval production is begun once staging has soaked, not before, and once."""
    site.ask(soak_s=SOAK)
    fleet.start()
    run_id = fleet.submit(["one"])
    record = fleet.ended(run_id)
    assert record.status is Status.COMPLETED
    staging = next(task for task in record.tasks if task.stage is Stage.STAGING)
    task = production(fleet, run_id)
    assert (task.started_at or 0.0) >= (staging.finished_at or 0.0) + SOAK
    assert task.attempts == 1
    assert told(fleet, run_id) == ["parked staging soaks", "running", "completed"]


def test_staging_that_turns_unwell_stops_the_promotion(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """Looked at while it soaks, an unwell staging ends the run before production is begun, or a person is asked."""
    site.ask(soak_s=3600, check_every_s=1, approval=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "soak")
    site.fall_ill()
    assert fleet.ended(run_id).status is Status.FAILED
    task = production(fleet, run_id)
    assert (task.status, task.started_at, task.attempts) == (Status.FAILED, None, 0)
    assert "did not hold in 'staging'" in error(task)
    assert "health: asked" in error(task)
    assert not site.back.exists()


@pytest.mark.slow
def test_staging_that_turns_unwell_is_rolled_back_where_asked_for(
    fleet: Fleet, site: Site, eventually: Eventually
) -> None:
    """With ``roll_back`` an unwell staging goes back to its previous release; the run, and `tta releases`, say so."""
    site.ask(soak_s=3600, check_every_s=1, roll_back=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "soak")
    site.fall_ill()
    assert fleet.ended(run_id).status is Status.FAILED
    assert error(production(fleet, run_id)).endswith(" Release 222222222222 is in use there again.")
    assert site.back.read_text() == "2" * 64
    (known,) = Environments(fleet.settings).known()
    assert (known.environment, known.current) == ("staging", "2" * 64)


@pytest.mark.slow
def test_staging_is_seen_to_once_more_after_the_approval(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """Who approves hours after the soak does not promote what has fallen ill meanwhile."""
    site.ask(approval=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    site.fall_ill()
    fleet.client.approve(run_id)
    assert fleet.ended(run_id).status is Status.FAILED
    assert production(fleet, run_id).started_at is None


def test_not_approved_in_time_a_run_ends(fleet: Fleet, site: Site) -> None:
    """An approval that does not come ends the run as failed, and says so; it is no dead letter."""
    site.ask(approval=True, expires_s=1.5)
    fleet.start()
    run_id = fleet.submit(["one"])
    assert fleet.ended(run_id).status is Status.FAILED
    assert "Not approved by " in error(production(fleet, run_id))
    assert View(fleet.client.ledger, fleet.settings).look().dead == 0
    with pytest.raises(UsageError, match="has ended, as failed"):
        fleet.client.approve(run_id)


def test_rejected_a_run_ends_at_once(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """A rejection ends the run with who and why, also while staging soaks; nothing can be approved after."""
    site.ask(soak_s=3600)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "soak")
    with pytest.raises(UsageError, match="needs no approval"):
        fleet.client.approve(run_id)
    fleet.client.reject(run_id, by="ada", reason="wrong week")
    assert fleet.client.ledger.run(run_id).status is Status.FAILED
    assert error(production(fleet, run_id)) == "Rejected by ada: wrong week"
    assert not fleet.client.reject(run_id, by="bob")[1]
    with pytest.raises(UsageError, match="was rejected by ada"):
        fleet.client.approve(run_id)


@pytest.mark.slow
def test_approved_while_staging_soaks(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """An early approval is taken down, and production is begun when the soak is over."""
    site.ask(soak_s=SOAK, approval=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    with pytest.raises(UsageError, match="is not parked"):
        fleet.client.approve(run_id)
    eventually(lambda: waits_for(fleet, run_id) == "soak")
    fleet.client.approve(run_id)
    assert production(fleet, run_id).status is Status.PARKED
    assert fleet.ended(run_id).status is Status.COMPLETED
    task = production(fleet, run_id)
    assert task.promotion is not None
    assert (task.started_at or 0.0) >= task.promotion.soaked_at


def test_two_who_approve_at_once_have_one_effect(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """Of approvals that come together one counts, each is told which, and production is begun once."""
    site.ask(approval=True)
    fleet.start(slots=2)
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    together, answers = threading.Barrier(6), []

    def approve(who: str) -> None:
        with TaskClient.connect() as client:
            together.wait()
            answers.append(client.approve(run_id, by=who))

    people = [threading.Thread(target=approve, args=(f"person-{number}",)) for number in range(6)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert fleet.ended(run_id).status is Status.COMPLETED
    assert sorted(ours for _, ours in answers) == [False] * 5 + [True]
    assert {decision.by for decision, _ in answers} == {decision.by for decision, ours in answers if ours}
    assert production(fleet, run_id).attempts == 1
    assert len([what for what in told(fleet, run_id) if what.startswith("approved")]) == 1
    with pytest.raises(UsageError, match="was approved by person-"):
        fleet.client.reject(run_id)


@pytest.mark.slow
def test_cancelled_while_it_is_parked(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """A parked run ends as cancelled at once, and stays so."""
    site.ask(approval=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    fleet.client.cancel_run(run_id)
    assert fleet.client.ledger.run(run_id).status is Status.CANCELLED
    with pytest.raises(UsageError, match="has ended, as cancelled"):
        fleet.client.approve(run_id)


@pytest.mark.slow
def test_resumed_while_it_is_parked(fleet: Fleet, site: Site, eventually: Eventually) -> None:
    """Its canvas published once more, a parked run does nothing again and waits on; approved, it completes."""
    site.ask(approval=True)
    fleet.start()
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    workflow.resume(fleet.client.ledger.run(run_id), fleet.client)
    eventually(lambda: fleet.waiting("testing") == 0)
    fleet.client.approve(run_id)
    record = fleet.ended(run_id)
    assert record.status is Status.COMPLETED
    assert {task.attempts for task in record.tasks} == {1}


def test_what_a_parked_run_needs_does_not_expire(
    fleet: Fleet, site: Site, valkey: redis.Redis, eventually: Eventually
) -> None:
    """Parked for longer than anything is retained, the run, its results and its artifacts are still there."""
    snapshot = fleet.client.store.put(b"a snapshot")
    site.ask(approval=True)
    fleet.start()
    run_id = fleet.submit(["one"], snapshot=snapshot)
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    record = fleet.client.ledger.run(run_id)
    names = [f"tta:run:{run_id}", f"tta:events:{run_id}", f"tta:artifact:{snapshot}"]
    names += [f"tta:task:{task.id}" for task in record.tasks]
    task, retention = production(fleet, run_id), fleet.settings.retention_s
    assert float(str(valkey.zscore("tta:open:deployment", task.id))) < time.time() + retention / 3
    for name in names:
        valkey.expire(name, 60)
    valkey.zadd("tta:open:deployment", {task.id: time.time()})  # the time has come to look at it
    eventually(lambda: min(int(str(valkey.ttl(name))) for name in names) > retention / 2)
    assert production(fleet, run_id).status is Status.PARKED
