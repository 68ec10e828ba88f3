"""Agents on real workers, through the real queue: bounded together, continued elsewhere, and silent about secrets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tta_tasks.celery import app
from tta_tasks.client import TaskClient
from tta_tasks.models import Component, GenerationRequest, GenerationResult, Module, Status
from tta_tasks.settings import settings
from tta_tasks.snapshot import pack
from tta_tasks.stores import open_store

if TYPE_CHECKING:
    from tests.openhands.conftest import Bench

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(560)]

SECRET = "sk-secret-of-the-worker"  # noqa: S105 - made up
MODULE = Module(name="shapes", path="shapes.py")
EXAMPLE = Path(__file__).parents[2] / "examples" / "calculator"


@dataclass
class Fleet:
    """Workers that have the bench's settings, its key among them."""

    bench: Bench
    client: TaskClient
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, slots: int) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        argv = [
            *(sys.executable, "-m", "celery", "--app", "workers", "worker", "--queues", "openhands"),
            *("--hostname", f"agents-{len(self.workers)}@%h", "--concurrency", str(slots)),
            *("--without-gossip", "--without-mingle"),
        ]
        with self.log(len(self.workers)).open("wb") as log:
            self.workers.append(subprocess.Popen(argv, env=os.environ, stdout=log, stderr=log, start_new_session=True))
        return self.workers[-1]

    def log(self, number: int) -> Path:
        """Where a worker's words are."""
        return self.bench.folder / f"worker-{number}.log"

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker and its pool at once, as a host that dies does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def submit(self, count: int) -> list[str]:
        """Have tests generated that many times over."""
        data = pack(self.bench.root, max_bytes=1 << 24, max_files=1000).data
        digest = open_store(settings()).put(data)
        component = Component(name="shapes", root="packages/shapes", modules=(MODULE,))
        requests = [
            GenerationRequest(snapshot=digest, component=component, module=MODULE, engine="openhands", seed=seed)
            for seed in range(count)
        ]
        return list(self.client.submit_many(requests))

    def results(self, ids: Sequence[str], within_s: float) -> list[GenerationResult]:
        """What came of tasks."""
        found = [self.client.result(each, timeout=within_s) for each in ids]
        assert all(isinstance(each, GenerationResult) for each in found)
        return [each for each in found if isinstance(each, GenerationResult)]


@pytest.fixture
def fleet(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("TTA_VISIBILITY_TIMEOUT_S", "3")
    settings.cache_clear()
    app._after_fork()  # type: ignore[attr-defined]
    made = Fleet(bench, TaskClient.connect())
    yield made
    made.client.close()
    for worker in made.workers:
        made.kill(worker)


def test_a_weak_answer_becomes_a_good_one(fleet: Fleet) -> None:
    """Below the threshold the agent hears what is missing, in the same conversation, and reaches it."""
    fleet.bench.scenario("weak")
    fleet.start(1)
    (result,) = fleet.results(fleet.submit(1), 200)
    assert result.coverage_after
    assert result.coverage_before
    assert (result.rounds, result.threshold_met) == (2, True)
    assert result.coverage_after.percent >= 80 > result.coverage_before.percent
    assert (result.usage.calls, result.usage.attempts) == (4, 2)
    assert [request["step"] for request in fleet.bench.model.requests] == [0, 1, 2, 3]


def test_a_fleet_keeps_a_models_bound(fleet: Fleet, processes: Callable[[str], list[str]]) -> None:
    """Twelve tasks on four slots, and a model for two at once: never more than two in flight, and all finish."""
    fleet.bench.configure(fleet.bench.entry("slowly", max_agents=2))
    fleet.start(4)
    results = fleet.results(fleet.submit(12), 500)
    assert [result.status for result in results] == [Status.COMPLETED] * 12
    assert all(result.threshold_met and result.usage.calls == 3 for result in results)
    assert max(request["in_flight"] for request in fleet.bench.model.requests) == 2
    assert not processes(str(fleet.bench.cache / "conversations"))


def test_a_lost_workers_conversation_goes_on_elsewhere(fleet: Fleet, processes: Callable[[str], list[str]]) -> None:
    """After SIGKILL of a worker mid-conversation another one continues it, and pays at most one call again."""
    fleet.bench.scenario("patient")
    first = fleet.start(1)
    ids = fleet.submit(1)
    until = time.monotonic() + 120
    while fleet.bench.model.asked("patient") < 4:
        assert time.monotonic() < until, fleet.log(0).read_text()[-2000:]
        time.sleep(0.05)
    fleet.kill(first)
    fleet.start(1)
    (result,) = fleet.results(ids, 200)
    assert (result.status, result.threshold_met) == (Status.COMPLETED, True)
    assert fleet.bench.model.asked("patient") <= 10 + 1
    assert fleet.client.status(ids[0]).attempts == 2
    assert not processes(str(fleet.bench.cache / "conversations"))


def test_no_model_means_the_embedded_engine(fleet: Fleet) -> None:
    """When no model can be used, the tests are the embedded engine's, and the result says why; it is not kept."""
    fleet.bench.scenario("401")
    fleet.start(1)
    (result,) = fleet.results(fleet.submit(1), 200)
    assert result.status is Status.COMPLETED
    assert [engine.partition(" ")[0] for engine in result.engines] == ["characterize"]
    assert "401 refused the key" in result.notes[0]
    (again,) = fleet.results(fleet.submit(1), 200)
    assert not again.cached


def test_a_workers_secret_is_nowhere(fleet: Fleet, valkey: redis.Redis) -> None:
    """An agent that looks for it finds no secret; and neither messages, results, logs nor conversations hold it."""
    fleet.bench.scenario("snoops")
    fleet.start(1)
    (result,) = fleet.results(fleet.submit(1), 200)
    assert result.threshold_met
    told = [request["last"] for request in fleet.bench.model.requests]
    assert any("VIRTUAL_ENV=" in text for text in told)
    dumped = b"".join(valkey.dump(key) or b"" for key in valkey.keys("*"))
    kept = [path.read_bytes() for path in (fleet.bench.cache).rglob("*") if _inspected(path)]
    secret = SECRET.encode()
    assert secret not in b"".join([dumped, *kept, fleet.log(0).read_bytes(), *map(str.encode, told)])
    assert any(b"test_a_circle_is_round" in content for content in kept)


def test_the_calculator_goes_from_its_spec_to_production(bench: Bench, host_cache: Path) -> None:
    """`tta run --enable-openhands` on a stack of its own: agents, acceptance, collection, releases, and the cost."""
    bench.configure(bench.entry("calculator"), STATE_DIR=bench.folder / "state", CACHE_DIR=host_cache)
    del os.environ["TTA_BROKER_URL"]
    project = bench.folder / "calculator"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".tta"))
    out = bench.folder / "out"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("tta"), "run", project / "specs" / "calculator.md", "--repo", project),
            *("--enable-openhands", "--target", "production", "--output", out),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["coverage_after"] > 90 > report["coverage_before"]
    assert report["usage"]["cost_usd"] > 0
    assert any(step["name"] == "openhands" and step["outcome"] == "kept" for step in report["refactoring"])
    assert [release["action"] for release in report["releases"]] == ["released", "released"]
    assert "calls of calculator" in done.stdout
    assert "USD" in (out / "report.html").read_text()
    left = [
        path.read_bytes() for folder in (out, bench.folder / "state") for path in folder.rglob("*") if _inspected(path)
    ]
    assert SECRET.encode() not in b"".join([*left, done.stdout.encode(), done.stderr.encode()])


def _inspected(path: Path) -> bool:
    parts = {"environments", "uv", "engines", "venv", "deployments"}
    return path.is_file() and not parts & set(path.parts)
