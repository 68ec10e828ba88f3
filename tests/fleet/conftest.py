"""Real workers in their own processes, on a real broker; only what they do is scripted (``scripted/scripted.py``)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from orchestrator import canvas
from tta_tasks.celery import app
from tta_tasks.client import TaskClient
from tta_tasks.models import Component, Gates, Mode, Module, Priority, RunPlan, RunRecord, Target
from tta_tasks.queues import NAMES
from tta_tasks.settings import Settings, settings

SCRIPTED = Path(__file__).parent / "scripted"
#: What makes the clock of a worker wrong.
SKEWED = Path(__file__).parent / "skewed"
#: URL of a RabbitMQ >= 4 to hold the same promises on: ``make rabbitmq``.
AMQP = "RABBITMQ_URL"
#: Seconds; short, so that a lost worker's task is seen again within a test.
VISIBILITY = 3.0


@dataclass
class Fleet:
    """Workers on one broker, and a client of it."""

    client: TaskClient
    settings: Settings
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, slots: int = 2, queues: Sequence[str] = NAMES, skew: float = 0) -> subprocess.Popen[bytes]:
        """Start one more worker, whose host's clock is ``skew`` seconds ahead."""
        environment = {
            **os.environ,
            "TTA_BROKER_URL": self.settings.broker,
            "TTA_CACHE_DIR": str(self.folder / "cache"),
            "TTA_VISIBILITY_TIMEOUT_S": str(VISIBILITY),
            "PYTHONPATH": os.pathsep.join(map(str, [SCRIPTED, *([SKEWED] if skew else [])])),
            "SKEW_S": str(skew),
        }
        number = len(self.workers)
        argv = [
            *(sys.executable, "-m", "celery", "--app", "workers", "worker", "--hostname", f"test-{number}@%h"),
            *("--queues", ",".join(queues), "--concurrency", str(slots), "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
        ]
        log = (self.folder / f"worker-{number}.log").open("wb")
        with log:
            worker = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.workers.append(worker)
        return worker

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue."""
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            if self.client.transport == "amqp":
                return int(channel.queue_declare(queue, passive=True).message_count)
            return int(channel._size(queue))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker, its pool and its courier at once, as a host that dies does."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(worker.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        for process in children:  # the courier has a session of its own
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        worker.wait()

    def submit(
        self,
        modules: Sequence[str] = (),
        *,
        name: str = "calculator",
        mode: Mode = Mode.ASYNC,
        target: Target = Target.PRODUCTION,
        priority: Priority = Priority.NORMAL,
        snapshot: str = "0" * 64,
    ) -> str:
        """Submit a run over ``modules``; their names say what their tasks do."""
        component = Component(name=name, modules=tuple(Module(name=module, path=f"{module}.py") for module in modules))
        plan = RunPlan(
            id=f"run-{time.monotonic_ns()}",
            created_at=time.time(),
            title=name,
            spec="spec.md",
            repository=name,
            component=component,
            target=target,
            mode=mode,
            gates=Gates(coverage=50),
            snapshot=snapshot,
        )
        tasks = canvas.tasks_of(plan, canvas.Generation(), priority)
        plan = plan.model_copy(update={"task_ids": tuple(task.id for task in tasks.all)})
        return self.client.submit_run(plan, tasks.all, canvas.compose(tasks, mode, self.client.transport))

    def ended(self, run_id: str, within_s: float = 60.0) -> RunRecord:
        """Wait for a run to end."""
        until = time.monotonic() + within_s
        for record in self.client.watch(run_id, poll_interval=0.5):
            if record.status.terminal:
                return record
            assert time.monotonic() < until, f"{[(task.label, task.status) for task in record.tasks]}"
        raise AssertionError("the watch ended without an end")


@pytest.fixture
def fleet(valkey: redis.Redis, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    assert valkey.dbsize() == 0
    monkeypatch.setenv("TTA_BROKER_URL", os.environ.get(AMQP) or valkey_url)
    monkeypatch.setenv("TTA_RESULT_URL", valkey_url)
    monkeypatch.setenv("TTA_VISIBILITY_TIMEOUT_S", str(VISIBILITY))
    settings.cache_clear()
    # The server was emptied: what an earlier test's connections declared there is gone.
    app._after_fork()  # type: ignore[attr-defined]
    made = Fleet(TaskClient.connect(), settings(), tmp_path)
    if made.client.transport == "amqp":
        with app.connection_for_write() as connection:
            for name in NAMES:
                queue = app.amqp.queues[name](connection.default_channel)
                queue.declare()
                queue.purge()
    yield made
    made.client.close()
    for worker in made.workers:
        made.kill(worker)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait, within bounds, until something holds."""

    def wait(holds: Callable[[], bool], within_s: float = 30.0) -> None:
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, "it never came to hold"
            time.sleep(0.05)

    return wait


class Site:
    """What the deployment workers are told of the environments."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "targets.toml"
        self.back = folder / "back"
        self._unwell = folder / "unwell"
        self._folder = folder

    def ask(self, **rule: object) -> None:
        """Set what promotion to production takes."""
        values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in rule.items())
        common = f'deployer = "scripted"\npath = "{self._folder}"\n'
        self.file.write_text(
            f"[environments.staging]\n{common}\n[environments.production]\n{common}promotion = {{ {values} }}\n"
        )

    def fall_ill(self) -> None:
        """Let health checks fail from now on."""
        self._unwell.touch()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)
    monkeypatch.setenv("TTA_TARGETS_FILE", str(made.file))
    monkeypatch.setenv("TTA_RECONCILE_INTERVAL_S", "0.3")
    return made
