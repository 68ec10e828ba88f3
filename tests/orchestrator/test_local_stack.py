"""The local stack: there while somebody uses it, gone afterwards, however they end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from flower.utils.broker import Broker as FlowerBroker
from kombu import Connection

from orchestrator.local import broker
from orchestrator.local.joining import failure, joined, prepare
from tta_tasks import stack
from tta_tasks.client import TaskClient
from tta_tasks.connection import as_redis_py
from tta_tasks.errors import BrokerUnavailable, SettingsError
from tta_tasks.models import Component, Status, TestingRequest
from tta_tasks.settings import settings
from tta_tasks.stack import Stack
from workers.sandbox import ProcessSandbox

if TYPE_CHECKING:
    from tests.conftest import Receiver

pytestmark = pytest.mark.stack

TTA = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
USE = """
import sys, time
from pathlib import Path
from orchestrator.local import broker
from orchestrator.local.joining import joined
with joined(Path(sys.argv[1]), slots=1) as running:
    print(running.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / ".tta"
    yield folder
    wait_until(lambda: not processes_of(folder))


def processes_of(state: Path) -> list[int]:
    """Processes whose command line or environment names the state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                named = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if str(state).encode() in named and not ended:
                found.append(int(entry.name))
    return found


def wait_until(holds: object, within_s: float = 30.0) -> None:
    assert callable(holds)
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.1)


def use(state: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that uses the stack; with the supervisor's process id."""
    user = subprocess.Popen([sys.executable, "-c", USE, str(state)], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    return user, int(user.stdout.readline())


def test_stack_ends_with_its_user(state: Path) -> None:
    """In the block its broker answers, with a password; after it nothing runs and no file claims otherwise."""
    with joined(state, slots=1) as running:
        client = redis.Redis.from_url(as_redis_py(running.broker_url))
        assert client.ping()
        client.close()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(f"unix://{running.broker_url.rpartition('@')[2]}").ping()
        assert stack.find(state) == running
    wait_until(lambda: not processes_of(state))
    assert stack.find(state) is None


def test_killed_user_leaves_nothing_running(state: Path) -> None:
    """SIGKILL of the only user: supervisor, broker, worker and its pool are gone soon."""
    user, supervisor = use(state)
    wait_until(lambda: len(processes_of(state)) >= 3)
    assert supervisor in processes_of(state)
    user.kill()
    user.communicate()
    wait_until(lambda: not processes_of(state))


def test_killed_supervisor_leaves_nothing_running(state: Path) -> None:
    """SIGKILL of the supervisor takes its children along, and the next user gets a new stack."""
    user, supervisor = use(state)
    wait_until(lambda: len(processes_of(state)) >= 3)
    os.kill(supervisor, signal.SIGKILL)
    user.kill()
    user.communicate()
    wait_until(lambda: not processes_of(state))
    with joined(state, slots=1) as running:
        assert running.pid != supervisor


def test_two_users_share_one_stack(state: Path) -> None:
    """A second user joins the first one's stack, which outlives the first and ends with the second."""
    user, supervisor = use(state)
    with joined(state) as running:
        assert running.pid == supervisor
        user.kill()
        user.communicate()
        time.sleep(1.5)  # several of the supervisor's looks for users
        client = redis.Redis.from_url(as_redis_py(running.broker_url))
        assert client.ping()
        client.close()


def test_what_was_accepted_survives_the_stack(state: Path) -> None:
    """The broker's data are on disk, and there again with the next stack."""
    with joined(state, slots=1) as running:
        client = redis.Redis.from_url(as_redis_py(running.broker_url))
        client.set("kept", "1")
        client.close()
    with joined(state, slots=1) as running:
        client = redis.Redis.from_url(as_redis_py(running.broker_url))
        assert client.get("kept") == b"1"
        client.close()


def test_broker_that_is_killed_comes_back(state: Path) -> None:
    """The supervisor starts a killed broker again, at the same address."""
    with joined(state, slots=1) as running:
        client = redis.Redis.from_url(as_redis_py(running.broker_url))
        broker = int(client.info("server")["process_id"])
        os.kill(broker, signal.SIGKILL)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_until(answers)
        assert int(client.info("server")["process_id"]) != broker
        client.close()


def test_worker_that_cannot_start_is_told(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack gives up, and leaves the reason for whoever waits for the worker's first task."""
    (tmp_path / "psutil.py").write_text("raise ImportError('no psutil on this host')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with joined(state, slots=1):
        wait_until(lambda: failure(state))
    assert re.search(r"worker keeps ending[\s\S]*no psutil on this host", failure(state))


def test_taken_port_is_told(state: Path, valkey_url: str) -> None:
    """A port that somebody else has is named, with what to do, and nothing stays."""
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(BrokerUnavailable, match=f"Port {port} on 127.0.0.1 is taken"), joined(state, port=port):
        pass


@pytest.mark.parametrize("module", ["orchestrator.local.supervisor", "orchestrator.cli.run"])
def test_nothing_heavy_is_imported_before_the_worker_starts(module: str) -> None:
    """Neither the supervisor nor what a run is planned with brings Celery or a client of Redis along.

    They take longer to import than the broker takes to start, and the worker, which takes longest, waits for it.
    """
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"celery", "kombu", "redis", "rich", "jinja2", "filelock"} & set(done.stdout.split())


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    """A state folder that cannot be made is one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        prepare(tmp_path / "file" / ".tta")


def test_state_folder_is_invisible_to_git(tmp_path: Path) -> None:
    """Nobody has to add .tta to a .gitignore."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # noqa: S607
    prepare(tmp_path / ".tta")
    command = ["git", "status", "--porcelain"]
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout == b""


@pytest.mark.slow
def test_observers_are_notified_before_the_stack_is_gone(
    state: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends last is posted too, though the stack's user leaves at once; and only once."""
    monkeypatch.setenv("TTA_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("TTA_WEBHOOK_TASKS", "true")
    request = TestingRequest(snapshot="0" * 64, component=Component(name="shop", modules=()))
    for _ in range(2):
        with joined(state, slots=1) as running:
            monkeypatch.setenv("TTA_BROKER_URL", running.broker_url)
            settings.cache_clear()
            with TaskClient.connect() as client:
                task_id = client.submit(request)
                assert client.result(task_id, timeout=60).status is Status.FAILED
        monkeypatch.delenv("TTA_BROKER_URL")
        wait_until(lambda: not processes_of(state))
        (end,) = receiver.ends()
        assert (end["task_id"], end["status"], end["error"]["type"]) == (task_id, "failed", "ArtifactMissing")
        receiver.posts.clear()


# -- the broker's socket


def listening(pid: int) -> set[str]:
    """Addresses at which a process listens over TCP, as the kernel writes them."""
    held = {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return {
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in held
    }


def socket_of(running: Stack) -> Path:
    assert running.broker_url.startswith("redis+socket://:")
    return Path(running.broker_url.rpartition("@")[2])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_broker_listens_on_a_socket_of_this_user_only(state: Path) -> None:
    """No port of the loopback leads to it; its folder is closed to other users, and not within the state folder."""
    with joined(state, slots=1) as running, redis.Redis.from_url(as_redis_py(running.broker_url)) as client:
        at = socket_of(running)
        assert listening(client.info("server")["process_id"]) == set()
        assert at.lstat().st_mode & 0o077 == 0
        assert (at.parent.lstat().st_mode & 0o777, at.parent.lstat().st_uid) == (0o700, os.geteuid())
        assert not at.is_relative_to(state.parent)
        assert len(os.fsencode(at)) <= 100
        at.unlink()  # as what tidies /tmp might

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_until(lambda: at.exists() and answers())
    wait_until(lambda: not at.exists())


@pytest.mark.parametrize(
    "level", [level for level in ("bubblewrap", "namespaces") if not ProcessSandbox(level).missing()]
)
def test_a_command_in_the_sandbox_does_not_find_the_socket(state: Path, tmp_path: Path, level: str) -> None:
    """Neither a build, which has the network, nor a test can connect to it, though it knows where it is."""
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.stdin.read())"
    command = [sys.executable, "-c", program]
    (tmp_path / "tree").mkdir()
    with joined(state, slots=1) as running:
        at = str(socket_of(running))
        subprocess.run(command, input=at, text=True, check=True)
        for network in (False, True):
            done = ProcessSandbox(level).run(command, cwd=tmp_path / "tree", network=network, stdin=at)
            assert done.returncode == 1
            assert "FileNotFoundError" in done.stderr or "PermissionError" in done.stderr


def test_a_port_that_is_asked_for_is_listened_on(state: Path) -> None:
    """With a port, or 0 for a free one, the broker is on the loopback."""
    with joined(state, slots=1, port=0) as running:
        assert re.fullmatch(r"redis://:[\w-]+@127\.0\.0\.1:\d+/0", running.broker_url)
        with redis.Redis.from_url(running.broker_url) as client:
            assert client.ping()


def test_without_a_place_for_the_socket_it_is_the_loopback(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing private can be had, nothing is shared: the broker has a port and a password."""
    monkeypatch.setattr(broker, "_private", lambda _: False)
    prepare(state)
    with stack.supervised(state):
        (state / "logs").mkdir()
        server = broker.Broker(state)
        server.start()
        try:
            assert server.url.startswith("redis://:")
        finally:
            server.stop()


@pytest.mark.slow
def test_everything_speaks_to_the_broker_over_its_socket(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own command, health, doctor and Flower find it by the state folder, and show no password."""
    monkeypatch.setenv("TTA_STATE_DIR", str(state))
    with joined(state, slots=1) as running:
        password = running.broker_url.removeprefix("redis+socket://:").partition("@")[0]
        subprocess.run([*TTA, "health", "testing", "--timeout", "60"], check=True, timeout=90)
        doctor = subprocess.run([*TTA, "doctor"], capture_output=True, text=True, check=False, timeout=90)
        assert f"redis+socket://{socket_of(running)} answers (local stack)" in doctor.stdout
        ping = [sys.executable, "-P", "-m", "celery", "-A", "tta_tasks", "inspect", "ping", "--timeout", "10"]
        pinged = subprocess.run(ping, cwd=state, capture_output=True, text=True, check=True, timeout=90)
        assert "pong" in pinged.stdout
        with Connection(running.broker_url) as connection:
            assert password not in connection.as_uri()
            shown = FlowerBroker(connection.as_uri(include_password=True), broker_options={})
            assert asyncio.run(shown.queues(["testing"])) == [{"name": "testing", "messages": 0}]
        assert password not in doctor.stdout + doctor.stderr + pinged.stdout
        assert password not in "".join(path.read_text() for path in (state / "logs").iterdir())
