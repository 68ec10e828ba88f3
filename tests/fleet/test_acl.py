"""deploy/redis/users.acl on a real server: each user can do what it is for, and no more."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery
from celery.backends.redis import RedisBackend
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.local.broker import find_server
from tta_tasks import lua, publishing
from tta_tasks.celery import app, configuration
from tta_tasks.client import TaskClient
from tta_tasks.connection import connect
from tta_tasks.errors import StoreUnavailable, UsageError
from tta_tasks.fleet import Fleet as View
from tta_tasks.ledger import Ledger
from tta_tasks.ledger.worker_registry import MIN_WINDOW
from tta_tasks.models import Decision, Status
from tta_tasks.settings import Settings, settings
from workers.openhands.limits import FleetLimits, Wait
from workers.openhands.outcome import ModelFault

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

ACL = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
USERS = ("admin", "producer", "approver", "worker", "monitor")


#: Another installation on the same server: its prefix, and that of its users.
TENANT = "second"


@dataclass(frozen=True)
class Server:
    """A server with the users of deploy/; each one's password is its name twice."""

    port: int

    def url(self, user: str, tenant: str = "") -> str:
        """Where ``user`` connects."""
        return f"redis://{tenant}{user}:{user}{user}@127.0.0.1:{self.port}/0"

    def settings(self, user: str, tenant: str = "") -> Settings:
        """How a process of ``user`` is set up."""
        prefix = {"key_prefix": f"{tenant}:"} if tenant else {}
        return Settings.model_validate({"broker_url": self.url(user, tenant), "visibility_timeout_s": 3, **prefix})

    def client(self, user: str) -> redis.Redis:
        """A connection of ``user``."""
        return connect(self.settings(user))


@pytest.fixture
def server(tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]) -> Iterator[Server]:
    """Such a server, empty."""
    text = ACL.read_text(encoding="utf-8")
    for user in USERS:
        text = text.replace(f"{user.upper()}_SHA256", hashlib.sha256(f"{user}{user}".encode()).hexdigest())
    # As deploy/redis/README.md tells it.
    second = "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(("user default", "user admin"))
    )
    text += second.replace("tta:", f"{TENANT}:").replace("user ", f"user {TENANT}")
    (tmp_path / "users.acl").write_text(text, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        made = Server(probe.getsockname()[1])
    binary = find_server()
    assert binary is not None
    argv = [str(binary), "--port", str(made.port), "--bind", "127.0.0.1", "--aclfile", str(tmp_path / "users.acl")]
    with (tmp_path / "valkey.log").open("wb") as log:
        process = subprocess.Popen([*argv, "--dir", str(tmp_path), "--appendonly", "yes"], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return bool(made.client("admin").ping())
        except redis.ConnectionError:
            return False

    try:
        eventually(answers)
        yield made
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("user", ["producer", "approver", "worker", "monitor"])
def test_every_user_can_ask_the_doctor(server: Server, user: str) -> None:
    """What a user may not see is said in its line; none ends in a traceback."""
    argv = [str(Path(sys.executable).with_name("tta")), "doctor"]
    environment = {**os.environ, "TTA_BROKER_URL": server.url(user)}
    told = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in told.stderr
    assert re.search(r"^ok  broker ", told.stdout, re.MULTILINE)
    assert re.search(r"^!!  workers .*(0 on no queue|does not let this user)", told.stdout, re.MULTILINE)
    assert user * 2 not in told.stdout


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_a_worker_may_answer_who_knows_celery_only(server: Server) -> None:
    """Celery's own result, for a producer that has no ledger; it is written as the backend writes it."""
    celery = Celery()
    celery.conf.update(configuration(server.settings("worker")))
    backend = RedisBackend(url=server.url("worker"), app=celery)
    backend.store_result("t1", {"status": "completed"}, "SUCCESS")
    assert backend.get_result("t1") == {"status": "completed"}


@pytest.mark.slow
def test_users_can_do_what_they_are_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet, eventually: Callable[..., None]
) -> None:
    """A producer's run is done by a worker, retries and lost processes included, and a monitor sees it all."""
    _become(server.url("producer"), monkeypatch)
    with TaskClient.connect() as client:
        mine = type(fleet)(client, server.settings("worker"), tmp_path)
        client.store.put(b"a snapshot")
        worker = mine.start()
        try:
            record = mine.ended(mine.submit(["one", "two_unreachable_once", "three_dies_once"]))
            assert record.status is Status.COMPLETED
            assert client.result(record.tasks[-1].id, timeout=10).ok
            # More than follow at once: the rest waits for its turn, until a worker or the producer ends others.
            mine.ended(mine.submit([f"wide{number}" for number in range(MIN_WINDOW + 2)]))
            waiting = mine.submit([f"{number}_waits" for number in range(MIN_WINDOW + 2)])
            client.cancel_run(waiting)
            assert mine.ended(waiting).status is Status.CANCELLED
            seen = View(Ledger.connect(server.settings("monitor")), server.settings("monitor"))
            eventually(lambda: seen.look().reconciled)
            assert seen.look().counters["ended:generation:completed"] == 3 + MIN_WINDOW + 2
            _watch_as(server, monkeypatch)
        finally:
            mine.kill(worker)
    log: Any = server.client("admin").acl_log()
    assert [(entry["username"], entry["reason"], entry["object"]) for entry in log] == [], "needed, and refused"


def _become(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, and the workers it starts, keep everything at ``url``, and nothing where `fleet` is."""
    monkeypatch.setenv("TTA_BROKER_URL", url)
    monkeypatch.delenv("TTA_RESULT_URL", raising=False)
    settings.cache_clear()
    app._after_fork()  # type: ignore[attr-defined]


def _watch_as(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower does: ask the workers, and listen."""
    monkeypatch.setenv("TTA_BROKER_URL", server.url("monitor"))
    settings.cache_clear()
    with app.connection_for_read(server.url("monitor")) as broker:
        assert app.control.inspect(timeout=5, connection=broker).ping()
        heard: list[str] = []
        receiver = app.events.Receiver(broker)

        def hear(event: dict[str, Any]) -> None:
            heard.append(event["type"])
            receiver.should_stop = True

        receiver.handlers["*"] = hear
        receiver.capture(timeout=20)
        assert heard


#: Where there are scripts -> who runs them. One that is refused a command stops in the middle of its step.
SCRIPTS = {
    "tta_tasks/ledger": ("producer", "approver", "worker"),
    "tta_tasks/stores": ("producer", "approver", "worker"),
    "workers/openhands": ("worker",),
}


@pytest.mark.slow
def test_a_worker_may_notify_observers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet, eventually: Callable[..., None]
) -> None:
    """The end of a run is told by a worker that has the rights of the file; one that fails is told again."""
    monkeypatch.setenv("SCRIPTED_OBSERVER", "1")
    _become(server.url("producer"), monkeypatch)
    with TaskClient.connect() as client:
        mine = type(fleet)(client, server.settings("worker"), tmp_path)
        worker = mine.start()
        try:
            mine.ended(mine.submit(["one"]))
            told = tmp_path / "cache" / "ends"
            eventually(lambda: told.exists() and len(told.read_text().splitlines()) >= 8)
        finally:
            mine.kill(worker)
    assert not server.client("admin").acl_log(), "needed, and refused"


def test_scripts_are_refused_no_command() -> None:
    """Each user may run every command of the scripts that it runs, those included that a test seldom comes to."""
    granted = dict(re.findall(r"^user (\w+) (.*)$", ACL.read_text(encoding="utf-8"), re.MULTILINE))
    root = ACL.parents[2]
    found = lua.scripts(root / "tta_tasks", root / "workers", root / "orchestrator")
    assert {str(path.parent.relative_to(root)) for path in found} == SCRIPTS.keys()
    for path in found:
        script = lua.load(path).text
        needed = {f"+{command.lower()}" for command in re.findall(r"(?:call\(|and |or )'([A-Z]{3,})'", script)}
        assert needed
        for user in SCRIPTS[str(path.parent.relative_to(root))]:
            assert needed <= {*granted[user].split()}, (path.name, user, needed - {*granted[user].split()})


def test_agents_limits_are_a_workers_business(server: Server) -> None:
    """Places, turns, money and breakers of models work as the user `worker`."""
    shared = FleetLimits(server.settings("worker"))
    waiting = Wait(cancelled=lambda: False, progress=lambda _: None, until=0.0)
    with shared.place("fair", 1, waiting):
        assert shared.turn("fair", 1, waiting)
        assert not shared.turn("fair", 1, waiting)
    assert shared.spend("run", 0.5) == 0.5
    assert shared.guarded("fair", lambda: "answer") == "answer"

    def failing() -> None:
        raise ModelFault("It does not answer.")

    with pytest.raises(ModelFault):
        shared.guarded("fair", failing)
    shared.open("fair")
    assert shared.is_resting("fair")
    seen = View(Ledger.connect(server.settings("monitor")), server.settings("monitor")).look()
    assert seen.breakers == {"model fair": "open"}


@pytest.mark.slow
def test_only_listed_users_approve(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet, eventually: Callable[..., None]
) -> None:
    """A producer cannot approve, under no name and not by writing into the ledger; a listed user can."""
    targets = tmp_path / "targets.toml"
    common = f'deployer = "scripted"\npath = "{tmp_path}"\n'
    rule = '[environments.production.promotion]\napprovers = ["approver", "alice"]\n'
    targets.write_text(f"[environments.staging]\n{common}[environments.production]\n{common}{rule}")
    monkeypatch.setenv("TTA_TARGETS_FILE", str(targets))
    monkeypatch.setenv("TTA_RECONCILE_INTERVAL_S", "0.3")
    _become(server.url("producer"), monkeypatch)
    with TaskClient.connect() as client:
        mine = type(fleet)(client, server.settings("worker"), tmp_path)
        worker = mine.start()
        try:
            forged, honest = mine.submit(["one"]), mine.submit(["two"])
            for run_id in (forged, honest):
                eventually(lambda run_id=run_id: client.ledger.run(run_id).status is Status.PARKED, 200)
                with pytest.raises(UsageError, match=r"Redis users only: approver, alice\. This is 'producer'"):
                    client.approve(run_id, by="approver")
            _forge(server, client, forged)
            record = mine.ended(forged, within_s=200)
            assert record.status is Status.FAILED
            error = record.tasks[-1].result and record.tasks[-1].result.error
            assert error
            assert (
                "was not approved by a Redis user who may approve for 'production': approver, alice." in error.message
            )
            assert "alice is said to have." in error.message

            _become(server.url("approver"), monkeypatch)
            with TaskClient.connect() as approver:
                decision, ours = approver.approve(honest, by="Ada", reason="seen")
            assert (ours, decision.by, decision.user) == (True, "Ada", "approver")
            _become(server.url("producer"), monkeypatch)
            assert mine.ended(honest, within_s=200).status is Status.COMPLETED
        finally:
            mine.kill(worker)


def _forge(server: Server, client: TaskClient, run_id: str) -> None:
    """What a stolen password of a producer, or of a worker, can do for an approval by ``alice``."""
    task = client.ledger.run(run_id).tasks[-1]
    key = f"approval:tta:alice:{task.id}"
    for user in ("producer", "worker", "approver", "monitor"):
        with server.client(user) as stolen, pytest.raises(redis.exceptions.NoPermissionError):
            stolen.set(key, "production/calculator/x")
    with server.client("producer") as stolen, pytest.raises(redis.exceptions.NoPermissionError):
        stolen.get(f"approval:tta:approver:{task.id}")
    decision = Decision(outcome="approved", by="alice", user="alice", at=time.time())
    with server.client("producer") as stolen:
        stolen.hset(f"tta:task:{task.id}", mapping={"decision": decision.model_dump_json(), "status": "queued"})
        publishing.publish([client.ledger.task(task.id)])


DENIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "producer": (
        ("RPOP", "tta:testing"),
        ("BRPOP", "tta:testing", "1"),
        ("SET", "other:key", "1"),
        ("GET", "other:key"),
    ),
    "worker": (("SET", "other:key", "1"), ("PUBLISH", "other", "1"), ("SUBSCRIBE", "other")),
    "monitor": (
        *(("SET", "tta:task:1", "1"), ("HSET", "tta:task:1", "status", "failed"), ("DEL", "tta:dead")),
        *(("LPUSH", "tta:testing", "{}"), ("BRPOP", "tta:testing", "1"), ("HSET", "tta:counters", "x", "1")),
    ),
}
NOBODYS = (
    *(("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("SCAN", "0"), ("CONFIG", "GET", "*"), ("ACL", "LIST")),
    *(("SHUTDOWN",), ("MONITOR",), ("EVAL", "return 1", "0"), ("CLIENT", "LIST")),
    *(("REPLICAOF", "NO", "ONE"), ("SAVE",), ("MODULE", "LIST"), ("SORT", "tta:runs")),
)


@pytest.mark.parametrize("user", DENIED)
def test_users_can_do_no_more(server: Server, user: str) -> None:
    """What is not a user's business is refused: dangerous commands, other prefixes, others' parts."""
    with server.client(user) as client:
        assert client.ping()
        for command in (*DENIED[user], *NOBODYS):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


@pytest.mark.slow
def test_tenants_do_not_see_each_other(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet
) -> None:
    """Two installations on one server: each has its run done by its own worker, and cannot get at the other's."""
    runs: dict[str, str] = {}
    for tenant in ("", TENANT):
        if tenant:
            monkeypatch.setenv("TTA_KEY_PREFIX", f"{tenant}:")
        _become(server.url("producer", tenant), monkeypatch)
        with TaskClient.connect() as client:
            (tmp_path / f"of-{tenant}").mkdir()
            mine = type(fleet)(client, server.settings("worker", tenant), tmp_path / f"of-{tenant}")
            worker = mine.start()
            try:
                runs[tenant] = mine.submit(["one"])
                assert mine.ended(runs[tenant]).status is Status.COMPLETED
                assert client.ledger.runs() == (runs[tenant],)
            finally:
                mine.kill(worker)
    monkeypatch.delenv("TTA_KEY_PREFIX")
    for user in ("producer", "worker", "monitor"):
        with server.client(user) as first:
            for command in (("HGETALL", f"{TENANT}:run:{runs[TENANT]}"), ("SUBSCRIBE", f"{TENANT}:task:1")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    first.execute_command(*command)
        with connect(server.settings(user, TENANT)) as second, pytest.raises(redis.exceptions.NoPermissionError):
            second.hgetall(f"tta:run:{runs['']}")


@pytest.mark.parametrize(
    ("user", "prefix", "said"),
    [
        ("worker:guessed", "tta:", "refused the password or user"),
        (
            "producer:producerproducer",
            "tta:",
            "does not let this user do that: User producer has no permissions to run",
        ),
        ("worker:workerworker", "other:", "does not let this user do that: No permissions to access a key"),
    ],
)
def test_worker_of_the_wrong_user_does_not_start(
    server: Server, monkeypatch: pytest.MonkeyPatch, user: str, prefix: str, said: str
) -> None:
    """A wrong password, another role's user, or another installation's keys: it ends, and says what to do."""
    url = f"redis://{user}@127.0.0.1:{server.port}/0"
    monkeypatch.setenv("TTA_BROKER_URL", url)
    monkeypatch.setenv("TTA_KEY_PREFIX", prefix)
    settings.cache_clear()
    app.conf.update(configuration(settings()))
    ended = CliRunner().invoke(main, ["worker", "testing"], catch_exceptions=False)
    assert ended.exit_code == 3
    assert f"The broker at redis://127.0.0.1:{server.port}/0 {said}" in ended.stderr.replace(
        "Redis at", "The broker at"
    )
    assert "TTA_" in ended.stderr.splitlines()[-1]
    assert "guessed" not in ended.output


def test_nobody_without_a_password(server: Server) -> None:
    """Without user and password nothing is answered; a wrong one is told as such."""
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    chosen = Settings.model_validate({"broker_url": f"redis://worker:guessed@127.0.0.1:{server.port}/0"})
    with pytest.raises(StoreUnavailable, match="refused the password or user"):
        Ledger.connect(chosen).runs()


def test_shipped_file_lets_nobody_in(tmp_path: Path) -> None:
    """As it is shipped no password fits: a server refuses the file instead of running with one that all know."""
    binary = find_server()
    assert binary is not None
    ended = subprocess.run(
        [str(binary), "--port", "0", "--aclfile", str(ACL), "--dir", str(tmp_path)],
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert ended.returncode != 0
