"""Observers of ends: real workers tell them, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tta_tasks import plugins
from tta_tasks.connection import connect
from tta_tasks.ledger.election import Election
from tta_tasks.models import End, RunEnd, Status, Target, TaskEnd
from tta_tasks.settings import settings
from workers.observers.webhook import signature
from workers.process.courier import Courier, observers

if TYPE_CHECKING:
    from tests.conftest import Receiver
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()


@pytest.fixture(autouse=True)
def _webhook(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTA_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("TTA_WEBHOOK_SECRET", SECRET)


Eventually = Callable[[Callable[[], bool]], None]


def counted(fleet: Fleet, outcome: str, observer: str = "webhook") -> float:
    """How many attempts to notify an observer had that outcome."""
    found: Any = connect(fleet.settings).hget("tta:counters", f"notified:{observer}:{outcome}")
    return float(found or 0)


def test_the_end_of_a_run_is_posted_and_signed(fleet: Fleet, receiver: Receiver, eventually: Eventually) -> None:
    """One request a run, with what ended and how; its signature is the HMAC that the receiver computes itself."""
    fleet.start()
    run = fleet.submit(["one"])
    fleet.ended(run)
    eventually(lambda: counted(fleet, "delivered") >= 1)
    ((headers, body),) = receiver.posts
    end = json.loads(body)
    assert (end["event"], end["run_id"], end["status"]) == ("run.ended", run, "completed")
    assert (end["title"], end["component"], end["target"]) == ("calculator", "calculator", "production")
    assert headers["webhook-id"] == end["id"]
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


@pytest.mark.slow
def test_ends_of_tasks_are_posted_on_request(
    fleet: Fleet, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """With ``TTA_WEBHOOK_TASKS`` each task's end is posted too, those of skipped and failed tasks with their error."""
    monkeypatch.setenv("TTA_WEBHOOK_TASKS", "true")
    fleet.start()
    run = fleet.submit(["one_fails"], target=Target.DEV)
    fleet.ended(run)
    eventually(lambda: any(end["event"] == "run.ended" for end in receiver.ends()))
    tasks = {end["label"]: end for end in receiver.ends() if end["event"] == "task.ended"}
    assert set(tasks) == {"test", "generate one_fails", "refactor", "collect"}
    failed = tasks["generate one_fails"]
    assert (failed["status"], failed["error"]["message"], failed["attempts"]) == ("failed", "It gave up.", 1)


def test_what_was_refused_is_posted_again(fleet: Fleet, receiver: Receiver, eventually: Eventually) -> None:
    """Any status but 2xx is a failure, a redirect too; the same end comes again, with the same id."""
    receiver.answers = [500, 302]
    fleet.start()
    fleet.ended(fleet.submit(["one"], target=Target.DEV))
    eventually(lambda: counted(fleet, "delivered") == 1)
    assert len({headers["webhook-id"] for headers, _ in receiver.posts}) == 1
    assert (len(receiver.posts), counted(fleet, "failed")) == (3, 2)
    assert {end["event"] for end in receiver.ends()} == {"run.ended"}
    log = (fleet.folder / "worker-0.log").read_text()
    assert "127.0.0.1 answered 500" in log
    assert "hidden" not in log


@pytest.mark.slow
def test_an_end_is_given_up_after_its_tries(
    fleet: Fleet, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """No end is posted for ever: after ``TTA_OBSERVER_TRIES`` it is counted as given up, and nothing of it is left."""
    monkeypatch.setenv("TTA_OBSERVER_TRIES", "2")
    receiver.answers = [500] * 10
    fleet.start()
    fleet.ended(fleet.submit(["one"], target=Target.DEV))
    eventually(lambda: counted(fleet, "given_up") == 1)
    assert (len(receiver.posts), counted(fleet, "failed"), counted(fleet, "delivered")) == (2, 2, 0)


@pytest.mark.slow
def test_a_slow_observer_holds_up_no_run(
    fleet: Fleet, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """While the server does not answer, runs go on and end; once it answers, all of them are delivered."""
    monkeypatch.setenv("TTA_OBSERVER_TIMEOUT_S", "1")
    receiver.open.clear()
    fleet.start()
    runs = [fleet.submit([f"m{number}"], target=Target.DEV) for number in range(3)]
    for run in runs:
        assert fleet.ended(run).status is Status.COMPLETED
    eventually(lambda: counted(fleet, "failed") >= 1)
    receiver.open.set()
    eventually(lambda: {end["run_id"] for end in receiver.ends()} == set(runs))


@pytest.mark.slow
def test_another_worker_delivers_what_a_dead_one_had(
    fleet: Fleet, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """A worker that is killed while it posts an end loses nothing: the next elected one posts it again."""
    monkeypatch.setenv("TTA_OBSERVER_TIMEOUT_S", "1")
    first = fleet.start()
    run = fleet.submit(["one_waits"], target=Target.DEV)
    eventually(lambda: fleet.client.ledger.run(run).tasks[1].status is Status.RUNNING)
    receiver.open.clear()
    fleet.client.cancel_run(run)
    fleet.ended(run)
    eventually(lambda: len(receiver.posts) == 1)
    fleet.kill(first)
    receiver.open.set()
    fleet.start()
    eventually(lambda: counted(fleet, "delivered") >= 1 and len(receiver.posts) >= 2)
    assert {(end["run_id"], end["status"]) for end in receiver.ends()} == {(run, "cancelled")}


@pytest.mark.slow
def test_a_worker_that_ends_delivers_what_has_ended_before(fleet: Fleet, receiver: Receiver) -> None:
    """A local stack ends with its run: the run's end is delivered all the same, by the worker that is asked to end."""
    worker = fleet.start()
    fleet.ended(fleet.submit(["one"], target=Target.DEV))
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(timeout=60)
    assert [end["event"] for end in receiver.ends()] == ["run.ended"]


def test_an_observer_of_another_package_is_notified(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """Whoever has an entry point gets each end, of runs and tasks; one that raises gets it again, and no other does."""
    monkeypatch.setenv("SCRIPTED_OBSERVER", "1")
    fleet.start()
    run = fleet.submit(["one"], target=Target.DEV)
    fleet.ended(run)
    journal = tmp_path / "cache" / "ends"

    def told() -> list[dict[str, Any]]:
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    eventually(lambda: any(end["event"] == "run.ended" for end in told()))
    eventually(lambda: len(told()) == 6)
    ids = [end["id"] for end in told()]
    assert ids.count(ids[0]) == 2  # the first one raised
    assert len(set(ids)) == 5


@pytest.mark.slow
def test_only_what_ends_while_there_are_workers_is_delivered(
    fleet: Fleet, valkey: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """A webhook that is set up later is not told of the past, of which nothing is kept; the stream of ends expires."""
    monkeypatch.setenv("TTA_WEBHOOK_TASKS", "true")
    earlier = fleet.submit(["never"], target=Target.DEV)
    for task in fleet.client.ledger.run(earlier).tasks:
        fleet.client.cancel(task.id)
    assert not valkey.exists("tta:ends")
    fleet.start()
    later = fleet.submit(["one"], target=Target.DEV)
    fleet.ended(later)
    eventually(lambda: counted(fleet, "delivered") == 5)
    assert {end["run_id"] for end in receiver.ends()} == {later}
    assert 0 < valkey.ttl("tta:ends") <= settings().retention_s


def test_an_expired_stream_is_begun_anew(fleet: Fleet, valkey: redis.Redis) -> None:
    """The stream and its groups expire together; what ends then is delivered from the first one on."""
    ends = fleet.client.ledger.ends
    ends.open("mine")
    valkey.delete("tta:ends")
    at = time.time()
    valkey.xadd("tta:ends", {"run_id": "r", "task_id": "", "status": "failed", "at": at})
    valkey.xadd("tta:ends", {"run_id": "", "task_id": "t", "status": "skipped", "at": at})
    ends.open("mine", start="0")
    ends.fetch("mine", 0.01, tasks=True)
    found = [ends.end_of(each, fields) for each in ends.pending("mine") if (fields := ends.begin("mine", each))]
    assert [(type(end), end.status) for end in found] == [(RunEnd, Status.FAILED), (TaskEnd, Status.SKIPPED)]


def test_fetching_is_no_attempt(fleet: Fleet, valkey: redis.Redis) -> None:
    """An end that was fetched with others and never begun has all its attempts left; ends of tasks can be left out."""
    ends = fleet.client.ledger.ends
    ends.open("mine")
    for number in range(250):
        task = "t" if number % 2 else ""
        valkey.xadd("tta:ends", {"run_id": "r", "task_id": task, "status": "failed", "at": time.time()})
    for _ in range(3):
        ends.fetch("mine", 0.01, tasks=False)
    waiting = list(ends.pending("mine"))
    assert [pending.attempts for pending in waiting] == [0] * 125
    assert ends.begin("mine", waiting[0]) is not None
    assert [pending.attempts for pending in ends.pending("mine")][:2] == [1, 0]
    valkey.xtrim("tta:ends", 0)
    assert ends.begin("mine", waiting[1]) is None
    ends.acknowledge("mine", waiting)
    assert not list(ends.pending("mine"))


class Slow:
    """Does not return from the first call until it may."""

    name = "slow"
    tasks = False

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may = threading.Event()

    def available(self) -> str:
        """It is."""
        return ""

    def ended(self, end: End) -> None:
        """Note the run."""
        self.calls.append(end.run_id)
        if len(self.calls) == 1:
            self.may.wait(30)


def test_ends_lose_no_attempt_to_one_that_hangs(fleet: Fleet, valkey: redis.Redis) -> None:
    """While a call hangs its worker makes no other; what was fetched with it is delivered at its first attempt then."""
    hasty = fleet.settings.model_copy(update={"observer_timeout_s": 0.1, "observer_tries": 2})
    observer = Slow()
    courier = Courier(observer, "w1", valkey, hasty)
    fleet.client.ledger.ends.open("slow")
    runs = [f"r{number}" for number in range(30)]
    for run in runs:
        valkey.xadd("tta:ends", {"run_id": run, "task_id": "", "status": "completed", "at": time.time()})
    courier.deliver(0.0)
    for _ in range(5):
        courier.deliver(0.0)
    assert observer.calls == ["r0"]
    assert not courier.elected()
    observer.may.set()
    # Another one of the same worker, with time: a busy host must not make an end fail.
    Courier(observer, "w1", valkey, hasty.model_copy(update={"observer_timeout_s": 30.0})).deliver(0.0)
    assert set(observer.calls) == set(runs)
    assert (counted(fleet, "failed", "slow"), counted(fleet, "given_up", "slow")) == (1, 0)


def test_an_end_that_cannot_be_read_holds_up_no_other(fleet: Fleet, valkey: redis.Redis) -> None:
    """A status that a newer version has added is tried and given up; the ends around it are delivered."""
    observer = Slow()
    observer.may.set()
    courier = Courier(observer, "w1", valkey, fleet.settings.model_copy(update={"observer_tries": 1}))
    fleet.client.ledger.ends.open("slow")
    for run, status in (("r1", "failed"), ("r2", "evaporated"), ("r3", "completed")):
        valkey.xadd("tta:ends", {"run_id": run, "task_id": "", "status": status, "at": time.time()})
    for _ in range(2):
        courier.deliver(0.0)
    assert observer.calls == ["r1", "r3"]
    assert counted(fleet, "given_up", "slow") == 1


def test_a_broken_observer_keeps_no_worker_from_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is not there, is none, or raises is named in the log; the others are notified."""
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    entries = "".join(f"{name} = broken:{name.title()}\n" for name in ("raises", "missing", "nothing", "misnamed"))
    (tmp_path / "broken-1.dist-info" / "entry_points.txt").write_text(f"[tta_tasks.observers]\n{entries}")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._found.cache_clear()
    settings.cache_clear()
    try:
        assert [observer.name for observer in observers()] == ["webhook"]
    finally:
        plugins._found.cache_clear()
    assert all(f"{name!r}" in caplog.text or f"Observer {name} " in caplog.text for name in ("raises", "missing"))
    assert "The observer 'nothing' (broken.Nothing) is none." in caplog.text
    assert "name = 'misnamed'" in caplog.text


BROKEN = """
class Raises:
    name, tasks = "raises", False
    def available(self): raise RuntimeError("no configuration file")
    def ended(self, end): ...

class Nothing: ...

class Misnamed(Raises): ...
"""


def test_one_worker_at_a_time_is_elected(valkey: redis.Redis, fleet: Fleet) -> None:
    """Another one follows when it resigns, or when its time is over; who is not elected ends no election."""
    election = Election(valkey, fleet.settings, "observer:x", hold_s=60)
    assert [election.elected(worker) for worker in ("w1", "w2", "w1")] == [True, False, True]
    election.resign("w2")
    assert not election.elected("w2")
    election.resign("w1")
    assert election.elected("w2")
    valkey.pexpire("tta:observer:x", 1)
    while valkey.exists("tta:observer:x"):
        time.sleep(0.001)
    assert election.elected("w1")


def test_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries (svix, ``test_sign``)."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the example
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (
        signature("plain", "id", 1, b"{}")
        == "v1," + base64.b64encode(hmac.new(b"plain", b"id.1.{}", hashlib.sha256).digest()).decode()
    )
