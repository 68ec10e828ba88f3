"""RPC server: what a runner may ask of the worker, by a Unix socket in a folder that only its sandbox sees."""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: Longest request, in bytes: a command may hold a whole file.
MOST_BYTES = 4 << 20

Handler = Callable[[Mapping[str, Any]], Mapping[str, object]]


class RpcServer(socketserver.ThreadingUnixStreamServer):
    """Serves requests, each on a connection and in a thread of its own.

    Args:
        path: Where the socket is made.
        handlers: Operation -> what handles it.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        #: Shown with each request.
        self.token = secrets.token_hex(16)
        self.handlers = handlers
        # The address of a socket is short; a path by way of its folder's descriptor always is.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            super().__init__(f"/proc/self/fd/{folder}/{path.name}", _RequestHandler)
        finally:
            os.close(folder)

    @contextmanager
    def serving(self) -> Iterator[RpcServer]:
        """Serve as long as the block lasts; at its end, no request is being handled."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="rpc")
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - socketserver's own
        """Note a request that could not be answered; the runner sees its connection end."""
        log.error("A request of an agent's runner could not be answered", exc_info=True)  # noqa: LOG014 - one is being handled


class _RequestHandler(socketserver.StreamRequestHandler):
    server: RpcServer

    def handle(self) -> None:
        line = self.rfile.readline(MOST_BYTES)
        try:
            request = json.loads(line)
        except ValueError:
            return
        if not hmac.compare_digest(str(request.pop("token", "")), self.server.token):
            return
        answer = self.server.handlers[request.pop("op")](request)
        try:
            self.wfile.write(json.dumps(answer).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):  # the runner was ended meanwhile
            return
