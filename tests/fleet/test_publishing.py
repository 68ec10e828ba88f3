"""Publishing on a broker that refuses or dies: whatever kombu lets through is one error, in our words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.server import Server

pytestmark = pytest.mark.stack

#: Publishes a task for each line it reads, and answers with a line. In a process of its own, as an app has one broker.
PUBLISHER = """
import sys
from tta_tasks.errors import TtaError
from tta_tasks.models import Component, GenerationRequest, Module
from tta_tasks.publishing import publish
from tta_tasks.requests import record_of
module = Module(name="m", path="m.py")
request = GenerationRequest(snapshot="0" * 64, component=Component(name="c", modules=(module,)), module=module)
for _ in sys.stdin:
    try:
        publish([record_of(request, "t")])
        print("published", flush=True)
    except TtaError as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.end()


@pytest.fixture
def publisher(server: Server) -> Iterator[subprocess.Popen[str]]:
    """A producer on it."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER],
        env=os.environ | {"TTA_BROKER_URL": server.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def asked(publisher: subprocess.Popen[str]) -> str:
    """What comes of one more task."""
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    publisher.stdin.write("\n")
    publisher.stdin.flush()
    return publisher.stdout.readline().strip()


def test_faults_of_publishing_are_one_error(server: Server, publisher: subprocess.Popen[str]) -> None:
    """A full disk, then a server that was killed: BrokerUnavailable, transient; and when it is back, it goes on."""
    assert asked(publisher) == "published"
    server.fill_disk()
    # Redis notices at its next write to the disk, and refuses from then on.
    told = next(answer for answer in (asked(publisher) for _ in range(10_000)) if answer != "published")
    assert told.startswith("BrokerUnavailable The broker at redis://127.0.0.1:")
    server.free_disk()
    server.stop(signal.SIGKILL)
    told = asked(publisher)
    assert told.startswith("BrokerUnavailable The broker at redis://127.0.0.1:")
    assert "Connection refused" in told
    server.start()
    assert asked(publisher) == "published"
