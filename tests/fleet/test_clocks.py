"""Hosts whose clocks differ by a minute or an hour: nothing is done twice, and nothing taken for lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis
from click.testing import CliRunner

from orchestrator.cli import main
from tests.fleet.test_promotion import production, waits_for
from tta_tasks.ledger import Ledger
from tta_tasks.models import Component, GenerationRequest, Module, RunRecord, Status
from tta_tasks.queues import NAMES

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet, Site

pytestmark = pytest.mark.stack

Eventually = Callable[[Callable[[], bool]], None]
#: Seconds that the wrong clock is ahead.
SKEWS = (-3600, -60, 60, 3600)
#: And what a host that has it does: it looks after the others' tasks, or it does them.
WRONG = [
    pytest.param(
        (skew, role),
        id=f"{skew} {role}",
        marks=[] if (skew, role) in {(-3600, "works"), (60, "reconciles")} else [pytest.mark.slow],
    )
    for skew in SKEWS
    for role in ("reconciles", "works")
]


def start(fleet: Fleet, valkey: redis.Redis, eventually: Eventually, wrong: tuple[int, str]) -> None:
    """Start two workers, one with a wrong clock; who comes first is elected to reconcile."""
    skew, role = wrong
    reconciling, working = (skew, 0) if role == "reconciles" else (0, skew)
    fleet.start(queues=("testing",), skew=reconciling)
    eventually(lambda: bool(valkey.exists("tta:reconciler")))
    fleet.start(slots=3, queues=[name for name in NAMES if name != "testing"], skew=working)


def done_once(record: RunRecord) -> None:
    assert {task.label: task.status for task in record.tasks} == {task.label: Status.COMPLETED for task in record.tasks}
    assert {task.label: (task.attempts, task.losses) for task in record.tasks} == {
        task.label: (1, 0) for task in record.tasks
    }


@pytest.mark.parametrize("wrong", WRONG)
def test_work_that_outlasts_its_lease_is_left_alone(
    fleet: Fleet, valkey: redis.Redis, eventually: Eventually, wrong: tuple[int, str]
) -> None:
    """Each task is begun once, and the times of a run are those of one clock."""
    began = fleet.client.ledger.clock.now()
    start(fleet, valkey, eventually, wrong)
    record = fleet.ended(fleet.submit(["one_outlasts", "two_outlasts", "three"]))
    done_once(record)
    now = fleet.client.ledger.clock.now()
    for task in record.tasks:
        assert began <= task.submitted_at <= (task.started_at or 0) <= (task.finished_at or 0) <= now
    assert not [event for _, event in fleet.client.ledger.events(record.plan.id) if event.what == "queued"]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_promotion_waits_as_long_as_it_should(
    fleet: Fleet, site: Site, valkey: redis.Redis, eventually: Eventually, wrong: tuple[int, str]
) -> None:
    """Staging soaks for its time, a person has theirs, and production is deployed once."""
    site.ask(soak_s=2, approval=True, expires_s=30)
    start(fleet, valkey, eventually, wrong)
    run_id = fleet.submit(["one"])
    eventually(lambda: waits_for(fleet, run_id) == "approval")
    fleet.client.approve(run_id, by="ada@example")
    record = fleet.ended(run_id)
    done_once(record)
    staged = next(task.finished_at for task in record.tasks if task.label == "deploy to staging")
    assert (production(fleet, run_id).started_at or 0) >= (staged or 0) + 2


@pytest.mark.parametrize("skew", SKEWS)
def test_a_producer_whose_clock_is_wrong(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, skew: int) -> None:
    """A deadline is as far away as the producer meant, and its tasks and runs are in their order."""
    module = Module(name="one", path="m.py")
    request = GenerationRequest(snapshot="0" * 64, component=Component(name="c", modules=(module,)), module=module)
    before = fleet.submit(["one"])
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + skew)
    ledger = fleet.client.ledger
    late, early = (fleet.client.submit(request, deadline=time.time() + seconds) for seconds in (300.0, 0.5))
    assert ledger.task(late).deadline == pytest.approx(ledger.clock.now() + 300, abs=10)
    run_id = fleet.submit(["one"])
    assert ledger.run(run_id).plan.created_at == pytest.approx(ledger.clock.now(), abs=10)
    assert ledger.runs(2) == (run_id, before)
    fleet.start(queues=("testing",))
    error = fleet.client.result(early, timeout=60).error
    assert error is not None
    assert "deadline" in error.message
    fleet.start(queues=[name for name in NAMES if name != "testing"])
    assert fleet.client.result(late, timeout=60).status is Status.COMPLETED
    assert fleet.ended(run_id).status is Status.COMPLETED


def test_a_wrong_clock_is_told(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, eventually: Eventually) -> None:
    """By the worker's log when it starts, and by `tta doctor`; a right one is not worth a word."""
    fleet.start(skew=-3600)
    fleet.start()
    logs = [fleet.folder / f"worker-{number}.log" for number in range(2)]
    said = "This host's clock is 3600 s behind the ledger's server."
    eventually(lambda: said in logs[0].read_text() and "ready." in logs[1].read_text())
    assert "clock" not in logs[1].read_text()
    assert "clock" not in CliRunner().invoke(main, ["doctor"]).output
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 61)
    told = CliRunner().invoke(main, ["doctor"])
    assert "This host's clock is 61 s ahead of the ledger's server." in told.output
    assert "NTP" in told.output


def test_a_ledger_that_is_away_does_not_stop_its_clock(valkey: redis.Redis, fleet: Fleet) -> None:
    """Between two answers, and while the server is away, time goes on."""
    assert valkey.ping()
    ledger = Ledger.connect(fleet.settings)
    first = ledger.clock.now()
    seconds, micro = valkey.time()
    assert first == pytest.approx(seconds + micro / 1e6, abs=1)
    ledger._redis.connection_pool.connection_kwargs["port"] = 1
    ledger._redis.connection_pool.disconnect()
    known = ledger.clock._known
    assert known is not None
    ledger.clock._known = known[0] - 3600, known[1] - 3600  # it was asked an hour ago
    assert ledger.clock.now() == pytest.approx(first, abs=5)
