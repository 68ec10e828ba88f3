"""One service, run in the sandbox, and started again when it ends by itself."""

from __future__ import annotations

import math
import socket
import threading
import time
from logging import DEBUG, Formatter, LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

from tta_tasks.errors import SandboxError
from tta_tasks.protocols import Completed, Limits, Sandbox
from workers.deployers.serving.states import Backend, Seen

#: Seconds before a service is started again, doubled each time; one that ran for the second is given a new start.
AGAIN_S, STEADY_S = 0.5, 60.0
#: Bytes of each of a service's two log files, and characters shown of what it last said.
LOG_BYTES = 1 << 20
MAX_SAID = 600


class Service:
    """A service and the thread that sees to it.

    Args:
        backend: What to run.
        sandbox: Where.
        data: What it may write to.
        log: Where what it prints goes; a second file beside it has what was before.
    """

    def __init__(self, backend: Backend, sandbox: Sandbox, data: Path, log: Path) -> None:
        self.backend = backend
        self._sandbox, self._data, self._log = sandbox, data, log
        self._seen = Seen()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"service {backend.release[:12]}", daemon=True)
        self._thread.start()

    @property
    def seen(self) -> Seen:
        """How it is."""
        return self._seen

    def end(self) -> None:
        """Ask it to end; it is given its time of grace."""
        self._ended.set()

    def ended(self, within_s: float) -> bool:
        """Wait until it is gone."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _keep(self) -> None:
        again_s = AGAIN_S
        while not self._ended.is_set():
            began = time.monotonic()
            said = self._run()
            ran_s = time.monotonic() - began
            if self._ended.is_set():
                self._seen = Seen()
                return
            self._seen = Seen(deaths=self._seen.deaths + 1, said=f"after {ran_s:.1f} s it ended: {said}")
            again_s = AGAIN_S if ran_s > STEADY_S else again_s * 2
            self._ended.wait(min(again_s, STEADY_S))

    def _run(self) -> str:
        """Run it to its end; answer what came of it."""
        port = _free_port()
        self._seen = self._seen.model_copy(update={"address": f"127.0.0.1:{port}", "alive": True})
        backend, log = self.backend, _Log(self._log)
        try:
            return _said(
                self._sandbox.run(
                    [word.replace("{port}", str(port)) for word in backend.command],
                    cwd=backend.folder,
                    writable=[self._data],
                    env={**backend.env, "PORT": str(port)},
                    limits=Limits(
                        wall_s=math.inf,
                        memory_bytes=backend.memory_bytes,
                        processes=backend.processes,
                        grace_s=backend.grace_s,
                    ),
                    network=True,
                    cancelled=self._ended.is_set,
                    output=log.write,
                )
            )
        except SandboxError as error:
            return error.message
        finally:
            log.close()


class _Log(RotatingFileHandler):
    """What a service prints, as it comes, in two files at most."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", errors="replace")
        self.terminator = ""
        self.setFormatter(Formatter("%(message)s"))

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - the library's
        """A full disk is no reason to end a service."""

    def write(self, data: bytes) -> None:
        """Add to it."""
        self.handle(LogRecord("service", DEBUG, "", 0, data.decode(errors="replace"), None, None))


def _said(completed: Completed) -> str:
    said = (completed.stderr.strip() or completed.stdout.strip())[-MAX_SAID:]
    return f"status {completed.returncode}{': ' if said else ''}{said}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
