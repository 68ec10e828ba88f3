"""Keeps what an environment serves: ``python -m workers.deployers.serving.service_supervisor [--detach] FOLDER``.

One process an environment, ours; the services are its children, in the sandbox, and end with it, however it ends. It
follows the plan in the environment's folder, and ends when there is nothing to keep, or on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from filelock import Timeout

from workers.deployers.serving.service import Service
from workers.deployers.serving.states import Backend, Files, Plan, Seen, Status
from workers.deployers.serving.tcp_proxy import Switch
from workers.sandbox import detect_sandbox

#: How often the plan is looked at, and seconds to wait for another keeper to be gone.
TICK_S = 0.1
LOCK_S = 5.0


class Keeper:
    """What is running, and the plan it follows.

    Args:
        files: The environment's.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._plan = Plan(public="")
        self._services: dict[str, Service] = {}
        self._leaving: list[Service] = []
        self._switch = Switch(self._order)
        self._error = ""
        self._told = Status()
        self._read_at = 0

    async def run(self, ended: asyncio.Event) -> None:
        """Follow the plan until there is nothing in it, or it is ``ended``."""
        while not ended.is_set():
            await self._follow()
            self._tell()
            if not self._plan.backends and not self._leaving:
                break
            try:
                await asyncio.wait_for(ended.wait(), TICK_S)
            except TimeoutError:
                continue
        self._switch.close()
        self._retain(())
        while self._leaving:
            await asyncio.sleep(TICK_S)
            self._see_off()

    async def _follow(self) -> None:
        """Act upon the plan where it has changed."""
        self._see_off()
        try:
            written = self._files.wanted.stat().st_mtime_ns
        except FileNotFoundError:
            written = 0
        if written != self._read_at:
            self._read_at, self._plan = written, self._files.plan() or Plan(public="")
            self._retain(self._plan.backends)
        if not self._plan.order:
            self._switch.close()
            self._error = ""
            return
        try:
            await self._switch.listen(self._plan.public)
            self._error = ""
        except OSError as error:  # tried again each time
            self._error = f"{self._plan.public} cannot be listened on: {error.strerror or error}"

    def _retain(self, backends: tuple[Backend, ...]) -> None:
        """Run the services among ``backends``, and no others."""
        wanted = {backend.release: backend for backend in backends if backend.command}
        for release, service in list(self._services.items()):
            if wanted.get(release) != service.backend:
                service.end()
                self._leaving.append(self._services.pop(release))
        for release, backend in wanted.items():
            if release not in self._services:
                log = self._files.logs / f"{release[:12]}.log"
                self._services[release] = Service(backend, detect_sandbox(), self._files.data, log)

    def _see_off(self) -> None:
        self._leaving = [service for service in self._leaving if not service.ended(0)]

    def _order(self) -> list[tuple[str, str]]:
        known = {release: seen.address for release, seen in self._seen().items() if seen.address}
        return [(release, known[release]) for release in self._plan.order if release in known]

    def _seen(self) -> dict[str, Seen]:
        seen = {}
        for backend in self._plan.backends:
            service = self._services.get(backend.release)
            now = service.seen if service else Seen(address=backend.address, alive=True)
            seen[backend.release] = now.model_copy(update={"connections": self._switch.connections[backend.release]})
        return seen

    def _tell(self) -> None:
        status = Status(generation=self._plan.generation, pid=os.getpid(), error=self._error, backends=self._seen())
        if status != self._told:
            self._files.tell(status)
            self._told = status


async def _main(files: Files) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await Keeper(files).run(ended)


def main(arguments: list[str]) -> int:
    """Keep one environment's services; with ``--detach`` as a process that nobody waits for."""
    reader, writer = os.pipe()
    if arguments[0] == "--detach":
        if os.fork():
            os.close(writer)
            os.read(reader, 1)  # until it keeps them, or has given up
            return 0
        os.setsid()
    files = Files(Path(arguments[-1]))
    for folder in (files.data, files.logs):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with files.keeping(LOCK_S):
            os.close(writer)
            print(time.strftime("%F %T"), "keeper", os.getpid(), flush=True)  # noqa: T201 - its log
            asyncio.run(_main(files))
    except Timeout:
        return 0  # there is one already
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
