"""A server that refuses, in between and all the time; many threads; and processes that were forked."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.chaos.server import Server
from tta_tasks.client import TaskClient
from tta_tasks.connection import MAX_CONNECTIONS, translated
from tta_tasks.errors import StoreUnavailable
from tta_tasks.models import Component, GenerationRequest, Module, Status
from tta_tasks.settings import settings

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

MODULE = Module(name="one", path="m.py")
REQUEST = GenerationRequest(snapshot="0" * 64, component=Component(name="c", modules=(MODULE,)), module=MODULE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with a disk of its own."""
    made = Server(tmp_path)
    made.start()
    yield made
    made.end()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskClient]:
    monkeypatch.setenv("TTA_BROKER_URL", server.url)
    settings.cache_clear()
    with TaskClient.connect() as made:
        yield made


def _full_disk(server: Server, _admin: redis.Redis) -> Callable[[], object]:
    server.fill_disk()
    return server.free_disk


def _full_memory(_server: Server, admin: redis.Redis) -> Callable[[], object]:
    admin.config_set("maxmemory", "1mb")
    return lambda: admin.config_set("maxmemory", "0")


def _failover(_server: Server, admin: redis.Redis) -> Callable[[], object]:
    admin.replicaof("127.0.0.1", "1")
    return lambda: admin.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("happens", "said"),
    [(_full_disk, "cannot write to its disk .*MISCONF"), (_full_memory, "is full"), (_failover, "is read-only")],
)
def test_what_may_be_lost_is_not_called_handed_in(
    server: Server,
    client: TaskClient,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Server, redis.Redis], Callable[[], object]],
    said: str,
) -> None:
    """A refusal after acceptance, before the disk has it, is told with the id; the next one is waited for as ever."""
    durability = client.ledger._durability
    written = durability._written
    with redis.Redis.from_url(server.url) as admin:
        undone: list[Callable[[], object]] = []

        def between(within_s: float) -> bool:
            undone.append(happens(server, admin))
            return written(within_s)

        monkeypatch.setattr(durability, "_written", between)
        with pytest.raises(StoreUnavailable, match=f"is accepted, but may not be on the server's disk.*{said}") as told:
            client.submit(REQUEST)
        undone[0]()
        monkeypatch.setattr(durability, "_written", written)
        assert client.status(told.value.ids[0]).status is Status.QUEUED
        calls = admin.info("commandstats")["cmdstat_waitaof"]["calls"]
        client.submit(REQUEST)
        assert admin.info("commandstats")["cmdstat_waitaof"]["calls"] == calls + 1


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), "is read-only"),
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind"), "TTA_KEY_PREFIX"),
        (redis.exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"), "Name one server"),
        (redis.exceptions.ClusterDownError("Hash slot not served"), "Name one server"),
        (redis.exceptions.MovedError("7 127.0.0.1:1"), "Name one server"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left"), "cannot write to its disk"),
        (redis.ResponseError("unheard-of"), "refuses: unheard-of"),
    ],
)
def test_who_answers_is_not_said_to_be_away(refusal: redis.RedisError, said: str) -> None:
    """What the server said is told, in its words and in ours."""
    with pytest.raises(StoreUnavailable, match=said) as told, translated("redis://h/0"):
        raise refusal
    assert "does not answer" not in str(told.value)


def test_a_key_that_holds_something_else_is_told(client: TaskClient, server: Server) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.set("tta:open:openhands", "taken")
    with pytest.raises(StoreUnavailable, match="holds something else under one of our keys"):
        client.submit(REQUEST)


def test_a_hundred_threads_share_a_client(client: TaskClient, server: Server) -> None:
    """They wait for each other's connections; nothing is refused."""
    gate, ids, errors = threading.Barrier(100), list[str](), list[BaseException]()

    def submit() -> None:
        gate.wait()
        try:
            ids.extend(client.submit(REQUEST) for _ in range(3))
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=submit) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(ids)) == 300
    with redis.Redis.from_url(server.url) as admin:
        assert admin.zcard("tta:open:openhands") == 300
        assert len(admin.client_list()) <= 2 * MAX_CONNECTIONS + 10


def test_many_that_are_interrupted_are_named(client: TaskClient, server: Server) -> None:
    """The server is full half-way: the error names all ids, and what was accepted is among them."""
    client.submit(REQUEST)
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) + 1_000_000)
        with pytest.raises(StoreUnavailable, match="is full") as told:
            client.submit_many([REQUEST] * 5000)
        admin.config_set("maxmemory", 0)
        accepted = {item.decode() for item in admin.zrange("tta:open:openhands", 0, -1)}
    assert len(told.value.ids) == 5000
    assert 1 < len(accepted) < 5000
    assert len(accepted - set(told.value.ids)) == 1


def test_a_forked_process_waits_for_itself(fleet: Fleet) -> None:
    """After its parent has waited, a child awaits what has ended and what it hands in, and closes."""
    fleet.start()
    program = """
        import os, sys, threading
        from tests.fleet.test_refusals import REQUEST
        from tta_tasks.client import TaskClient
        client = TaskClient.connect()
        first = client.submit(REQUEST)
        print("parent", client.result(first, timeout=60).status, flush=True)
        child = os.fork()
        if not child:
            print("child", client.result(first, timeout=30).status, flush=True)
            print("child", client.result(client.submit(REQUEST), timeout=30).status, flush=True)
            client.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent", client.result(client.submit(REQUEST), timeout=30).status, flush=True)
        client.close()
    """
    argv = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.split("\n")[:-1] == [
        "parent completed",
        "child completed",
        "child completed",
        "parent completed",
    ], done.stderr
