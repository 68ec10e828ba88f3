"""Messages that no client of ours would send: one clear line each; a worker neither dies nor loops on them."""

from __future__ import annotations

import base64
import json
import pickle
import time
import uuid
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tta_tasks.celery import app
from tta_tasks.models import Component, DeploymentRequest, GenerationRequest, Module, Status
from tta_tasks.tasks import generate_tests

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

QUEUE = "tta:openhands"
GENERATE = "tta_tasks.generate_tests"


def request() -> GenerationRequest:
    module = Module(name="one", path="one.py")
    return GenerationRequest(
        snapshot="0" * 64, component=Component(name="calculator", modules=(module,)), module=module
    )


def envelope(body: bytes, content_type: str = "application/json", task: str = GENERATE) -> bytes:
    """A message as kombu writes it."""
    tag = str(uuid.uuid4())
    properties = {
        "correlation_id": tag,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "openhands", "routing_key": "openhands"},
        "priority": 6,
        "body_encoding": "base64",
        "delivery_tag": tag,
    }
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"id": tag, "task": task, "lang": "py", "argsrepr": "()"},
        "properties": properties,
    }
    return json.dumps(message).encode()


def forged() -> dict[str, bytes]:
    """What somebody with access to the broker might put there, and why it is wrong."""
    deployment = DeploymentRequest(
        snapshot="0" * 64, component=Component(name="c", modules=()), environment="production"
    )
    large = json.dumps([["x" * (10 << 20)], {}, {}]).encode()

    def calling(*args: object) -> bytes:
        return envelope(json.dumps([args, {}, {}]).encode())

    def other(**parts: object) -> bytes:
        return json.dumps(json.loads(calling()) | parts).encode()

    def of(part: str, **fields: object) -> bytes:
        return other(**{part: json.loads(calling())[part] | fields})

    packed = base64.b64encode(zlib.compress(bytes(400 << 20))).decode()
    return {
        "nested without end": b"[" * 100_000 + b"]" * 100_000,
        "a body that is": envelope(b"[[], {}, " + b"[" * 5000 + b"]" * 5000 + b"]"),
        "headers are a list": other(headers=[1]),
        "headers are text": other(headers="abc"),
        "properties are a list": other(properties=[1]),
        "no delivery tag": other(properties={}),
        "its place is a list": of("properties", delivery_info=[1]),
        "its place is a number": of("properties", delivery_info={"routing_key": 7}),
        "arguments are a number": of("headers", argsrepr=5),
        "a group is a list": of("headers", group=[1], stamps=[1], stamped_headers="x", ignore_result={"a": 1}),
        "a limit is text": of("headers", timelimit="abc"),
        "no language": of("headers", lang=None, origin=None),
        "grows when it is unpacked": other(
            body=packed, headers=json.loads(calling())["headers"] | {"compression": "application/x-gzip"}
        ),
        "no compression we take": of("headers", compression="application/x-brotli"),
        "no JSON": b"garbage",
        "no object": b"[1, 2]",
        "no envelope": b"{}",
        "pickle": envelope(pickle.dumps([(), {}, {}]), "application/x-python-serialize"),
        "unknown task": envelope(b"[[], {}, {}]", task="os.system"),
        "no body": envelope(b""),
        "not the body of a task": envelope(b'{"a": 1}'),
        "too many arguments": calling(1, 2, 3),
        "not a request": calling({"kind": "generation", "snapshot": "../../etc/passwd"}),
        "a request for another task": calling(deployment.model_dump(mode="json")),
        "neither request nor record": calling(),
        "10 MB": envelope(large),
    }


def test_forged_messages_harm_nobody(
    fleet: Fleet, valkey: redis.Redis, eventually: Callable[[Callable[[], bool]], None], tmp_path: Path
) -> None:
    """Whatever is put into a queue, the worker says so, goes on, and does what comes after it; nothing is left."""
    worker = fleet.start()
    for message in forged().values():
        valkey.lpush(QUEUE, message)
    task_id = fleet.client.submit(request())
    assert fleet.client.result(task_id, timeout=60).status is Status.COMPLETED
    assert worker.poll() is None
    eventually(lambda: not valkey.exists("tta:unacked", "tta:unacked_index", QUEUE))
    log = (tmp_path / "worker-0.log").read_text()
    assert "Unrecoverable" not in log
    assert "Connection to broker lost" not in log
    assert "is no message, and is dropped: properties: Input should be a valid dictionary" in log
    assert "The message is for tta_tasks.generate_tests, its request for tta_tasks.deploy" in log
    assert "Its request does not hold: generation.snapshot" in log


def test_a_forged_message_does_not_end_a_task_by_expiring(fleet: Fleet, valkey: redis.Redis) -> None:
    """It names a task that was accepted, and has expired: that task is done all the same."""
    task_id = fleet.client.submit(request())
    waiting = "tta:openhands:6"
    message = json.loads(valkey.lindex(waiting, 0) or b"")
    message["headers"]["expires"] = "2001-01-01T00:00:00+00:00"
    valkey.rpush(waiting, json.dumps(message))
    fleet.start()
    assert fleet.client.result(task_id, timeout=60).status is Status.COMPLETED


def test_what_expires_before_a_worker_takes_it_is_not_done(
    fleet: Fleet, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """A request that another producer has published with an end ends as cancelled, and says why."""
    sent = generate_tests.apply_async(
        (request().model_dump(mode="json"),), queue="openhands", expires=datetime(2001, 1, 1, tzinfo=UTC)
    )
    fleet.start()
    eventually(lambda: bool(fleet.client.ledger.known([sent.id])))
    result = fleet.client.result(sent.id, timeout=30)
    assert result.status is Status.CANCELLED
    assert result.error is not None
    assert "expired" in result.error.message
    assert fleet.client.status(sent.id).attempts == 0


def test_revoked_task_ends(fleet: Fleet, valkey: redis.Redis, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """A task that an operator revokes, waiting or running, ends as cancelled; it is not done again as a lost one."""
    fleet.start(slots=1)
    module = Module(name="one_waits", path="one.py")
    running, waiting = fleet.client.submit_many([request().model_copy(update={"module": module}), request()])
    eventually(lambda: fleet.client.status(running).status is Status.RUNNING)
    app.control.revoke(waiting)
    app.control.revoke(running, terminate=True, signal="SIGKILL")
    ended = dict(fleet.client.results([running, waiting], timeout=30))
    assert {result.status for result in ended.values()} == {Status.CANCELLED}
    time.sleep(0.5)
    assert not valkey.exists("tta:open:openhands")
    assert fleet.client.status(waiting).attempts == 0


def test_broken_connection_does_not_start_work_twice(
    fleet: Fleet, valkey: redis.Redis, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """A worker whose connections are all reset goes on with its task, and nobody begins it beside it."""
    fleet.start()
    fleet.start()
    module = Module(name="one_outlasts", path="one.py")
    task_id = fleet.client.submit(request().model_copy(update={"module": module}))
    eventually(lambda: fleet.client.status(task_id).status is Status.RUNNING)
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    assert fleet.client.result(task_id, timeout=40).status is Status.COMPLETED
    assert fleet.client.status(task_id).attempts == 1
