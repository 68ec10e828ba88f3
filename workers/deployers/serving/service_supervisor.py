"""Runs what an environment serves: ``python -m workers.deployers.serving.service_supervisor [--detach] FOLDER``.

One process per environment. The services are its children, in the sandbox, and end when it ends, even if it is killed.
It follows the desired state in the environment's folder, and ends on SIGTERM or when there is nothing to run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from filelock import Timeout

from tta_tasks.errors import DeploymentFailed
from workers.deployers.serving.service import Service
from workers.deployers.serving.states import Backend, BackendStatus, DesiredState, ObservedState, StateFiles
from workers.deployers.serving.tcp_proxy import TcpProxy
from workers.sandbox import detect_sandbox

#: Seconds between two looks at the desired state.
TICK_S = 0.1
#: Seconds to wait for another supervisor to end.
LOCK_S = 5.0


class ServiceSupervisor:
    """Runs the services and the proxy of one environment as its desired state says.

    Args:
        files: The environment's.
    """

    def __init__(self, files: StateFiles) -> None:
        self._files = files
        self._desired = DesiredState(public="")
        self._unreadable = ""
        self._services: dict[str, Service] = {}
        self._stopping: list[Service] = []
        self._proxy = TcpProxy(self._routes)
        self._error = ""
        self._written = ObservedState()
        self._read_at = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the desired state until it names no backend, or ``stop`` is set."""
        while not stop.is_set():
            await self._follow()
            self._report()
            if not self._desired.backends and not self._stopping:
                break
            try:
                await asyncio.wait_for(stop.wait(), TICK_S)
            except TimeoutError:
                continue
        self._proxy.close()
        self._retain(())
        while self._stopping:
            await asyncio.sleep(TICK_S)
            self._forget_stopped()

    async def _follow(self) -> None:
        """Act upon the desired state if it has changed."""
        self._forget_stopped()
        self._reread()
        if not self._desired.order:
            self._proxy.close()
            self._error = ""
            return
        try:
            await self._proxy.listen(self._desired.public)
            self._error = ""
        except OSError as error:  # tried again each time
            self._error = f"{self._desired.public} cannot be listened on: {error.strerror or error}"

    def _reread(self) -> None:
        """Read the desired state if it was written; what runs goes on running while it cannot be read."""
        try:
            written = self._files.desired_path.stat().st_mtime_ns
        except FileNotFoundError:
            written = 0
        if written == self._read_at:
            return
        self._read_at = written
        try:
            self._desired, self._unreadable = self._files.desired() or DesiredState(public=""), ""
        except DeploymentFailed as error:
            self._unreadable = str(error)
            print(time.strftime("%F %T"), error, flush=True)  # noqa: T201 - its log
            return
        self._retain(self._desired.backends)

    def _retain(self, backends: tuple[Backend, ...]) -> None:
        """Run the services among ``backends``, and no others."""
        wanted = {backend.release: backend for backend in backends if backend.command}
        for release, service in list(self._services.items()):
            if wanted.get(release) != service.backend:
                service.stop()
                self._stopping.append(self._services.pop(release))
        for release, backend in wanted.items():
            if release not in self._services:
                log = self._files.logs / f"{release[:12]}.log"
                self._services[release] = Service(backend, detect_sandbox(), self._files.data, log)

    def _forget_stopped(self) -> None:
        self._stopping = [service for service in self._stopping if not service.stopped(0)]

    def _routes(self) -> list[tuple[str, str]]:
        known = {release: status.address for release, status in self._statuses().items() if status.address}
        return [(release, known[release]) for release in self._desired.order if release in known]

    def _statuses(self) -> dict[str, BackendStatus]:
        statuses = {}
        for backend in self._desired.backends:
            service = self._services.get(backend.release)
            status = service.status if service else BackendStatus(address=backend.address, alive=True)
            connections = self._proxy.connections[backend.release]
            statuses[backend.release] = status.model_copy(update={"connections": connections})
        return statuses

    def _report(self) -> None:
        observed = ObservedState(
            generation=self._desired.generation,
            pid=os.getpid(),
            error=self._error or self._unreadable,
            backends=self._statuses(),
        )
        if observed != self._written or not self._files.observed_path.exists():
            self._files.write_observed(observed)
            self._written = observed


async def _main(files: StateFiles) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await ServiceSupervisor(files).run(stop)


def main(arguments: list[str]) -> int:
    """Run one environment's services; with ``--detach`` in a process of its own session."""
    reader, writer = os.pipe()
    if arguments[0] == "--detach":
        if os.fork():
            os.close(writer)
            os.read(reader, 1)  # until it holds the lock, or has given up
            return 0
        os.setsid()
    files = StateFiles(Path(arguments[-1]))
    for folder in (files.data, files.logs):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with files.supervisor_lock(LOCK_S):
            os.close(writer)
            print(time.strftime("%F %T"), "supervisor", os.getpid(), flush=True)  # noqa: T201 - its log
            asyncio.run(_main(files))
    except Timeout:
        return 0  # there is one already
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
