"""A component that is a service, in versions that are well and others that are not; and a client that never rests."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tta_tasks.models import Component, Module
from workers.component import wheels
from workers.sandbox import detect_sandbox

SHOP = Component(name="shop", modules=(Module(name="shop.server", path="src/shop/server.py"),), import_root="src")
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shop"
version = "1.0"

[project.scripts]
shop = "shop.server:main"

[tool.hatch.build.targets.wheel]
packages = ["src/shop"]
"""
SERVER = """\
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, HEALTH, PRICE = {name!r}, {health!r}, {price!r}


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        body = {{"/health": "", "/price": PRICE}}.get(self.path, NAME).encode()
        self.send_response(HEALTH if self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    print("serving", NAME, flush=True)
    Server((os.environ.get("HOST", "127.0.0.1"), int(sys.argv[1])), Shop).serve_forever()
"""


def server(name: str, *, health: int = 200, price: str = "9") -> str:
    return SERVER.format(name=name, health=health, price=price)


VERSIONS = {
    "one": server("one"),
    "two": server("two"),
    "three": server("three"),
    "sick": server("sick", health=500),
    "wrong": server("wrong", price="0"),
}
#: Asks a shop for a price; ends well if it is the right one.
SMOKE = "import sys, urllib.request; sys.exit(urllib.request.urlopen('http://{address}/price').read() != b'9')"


def digest(version: str) -> str:
    return wheels.release_digest(version * 64, SHOP)


class Wheels(dict[str, Path]):
    """The wheel of each version, built when it is first asked for."""

    def __init__(self, cache: Path, folder: Path) -> None:
        super().__init__()
        self._built, self._folder = wheels.Wheels(cache, detect_sandbox()), folder

    def __missing__(self, version: str) -> Path:
        tree = self._folder / version / "tree"
        (tree / "src" / "shop").mkdir(parents=True)
        (tree / "pyproject.toml").write_text(PROJECT)
        (tree / "src" / "shop" / "__init__.py").write_text("")
        (tree / "src" / "shop" / "server.py").write_text(VERSIONS[version])
        self[version] = self._built.build(digest(version), tree, SHOP, print)
        return self[version]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Client:
    """Requests one after another, each on a connection of its own or all on one while it lasts."""

    def __init__(self, port: int, *, keep_alive: bool = False) -> None:
        self._port, self._keep_alive = port, keep_alive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        #: Who answered how often, and what went wrong.
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest_s = 0.0

    def _ask(self) -> None:
        connection = None
        while not self._stop.is_set():
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            began = time.monotonic()
            try:
                connection.request("GET", "/")
                self.answers[connection.getresponse().read().decode()] += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                connection = None
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if connection is not None and not self._keep_alive:
                connection.close()
                connection = None
            self._stop.wait(0.002)
        if connection is not None:
            connection.close()

    def run(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


@contextmanager
def asking(port: int, *, keep_alive: bool = False) -> Iterator[Client]:
    """A client that requests all the while."""
    client = Client(port, keep_alive=keep_alive)
    client.run()
    try:
        yield client
    finally:
        client.end()


def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.02)


def die(address: str) -> None:
    """End the service that listens at ``address``, from within."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/die")
    with suppress(OSError, http.client.HTTPException):
        connection.getresponse()
    connection.close()
