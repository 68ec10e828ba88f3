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
from workers.deployers.serving.states import Backend, BackendStatus

#: Seconds before a service is started again, doubled each time; one that ran for the second starts over with the first.
RESTART_S, STEADY_S = 0.5, 60.0
#: Bytes of each of a service's two log files, and characters shown of its last output.
LOG_BYTES = 1 << 20
MAX_OUTPUT = 600


class Service:
    """A service, and the thread that runs and restarts it.

    Args:
        backend: What to run.
        sandbox: Where.
        data: What it may write to.
        log: Where its output goes; a second file, ``LOG.1``, has what was before.
    """

    def __init__(self, backend: Backend, sandbox: Sandbox, data: Path, log: Path) -> None:
        self.backend = backend
        self._sandbox, self._data, self._log = sandbox, data, log
        self._status = BackendStatus()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=f"service {backend.release[:12]}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> BackendStatus:
        """Its status now."""
        return self._status

    def stop(self) -> None:
        """Ask it to end: SIGTERM, and SIGKILL after its time of grace."""
        self._stop.set()

    def stopped(self, within_s: float) -> bool:
        """Wait until it has ended, and return whether it has."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _supervise(self) -> None:
        delay_s = RESTART_S
        while not self._stop.is_set():
            began = time.monotonic()
            ended = self._run()
            ran_s = time.monotonic() - began
            if self._stop.is_set():
                self._status = BackendStatus()
                return
            self._status = BackendStatus(
                exits=self._status.exits + 1, last_exit=f"after {ran_s:.1f} s it ended: {ended}"
            )
            delay_s = RESTART_S if ran_s > STEADY_S else delay_s * 2
            self._stop.wait(min(delay_s, STEADY_S))

    def _run(self) -> str:
        """Run it to its end, and return how it ended."""
        port = _free_port()
        self._status = self._status.model_copy(update={"address": f"127.0.0.1:{port}", "alive": True})
        backend, log = self.backend, _Log(self._log)
        try:
            return _outcome(
                self._sandbox.run(
                    [word.replace("{port}", str(port)) for word in backend.command],
                    cwd=backend.folder,
                    writable=[self._data],
                    readable=backend.readable,
                    env={**backend.env, "PORT": str(port)},
                    limits=Limits(
                        wall_s=math.inf,
                        memory_bytes=backend.memory_bytes,
                        processes=backend.processes,
                        grace_s=backend.grace_s,
                    ),
                    network=True,
                    cancelled=self._stop.is_set,
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


def _outcome(completed: Completed) -> str:
    output = (completed.stderr.strip() or completed.stdout.strip())[-MAX_OUTPUT:]
    return f"status {completed.returncode}{': ' if output else ''}{output}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
