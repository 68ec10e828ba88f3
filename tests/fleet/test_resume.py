"""A run whose command, server and workers are all killed, and resumed, beside one that nobody disturbed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.chaos.server import Server
from tta_tasks.ledger import Ledger
from tta_tasks.models import GenerationResult, RunRecord, Stage, TaskRecord
from tta_tasks.queues import NAMES
from tta_tasks.settings import Settings

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1500)]

CALCULATOR = Path(__file__).parents[2] / "examples" / "calculator"
WORKERS = 2
CELERY = ("--app", "workers", "worker", "--hostname", "resume-{number}@%h", "--queues", ",".join(NAMES))
#: Far more than the search takes: it ends when it finds nothing new, so that time decides nothing.
BUDGET_S = 600


@dataclass
class Site:
    """A copy of the repository, and workers of its own: nothing is taken from another one's cache of results."""

    repository: Path
    environment: dict[str, str]
    crew: Crew

    def tta(self, *args: str) -> subprocess.Popen[str]:
        """Start ``tta ARGS``."""
        return subprocess.Popen(
            [sys.executable, "-c", "from orchestrator.cli import main; main(prog_name='tta')", *args],
            cwd=self.repository,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self) -> subprocess.Popen[str]:
        """Start the run."""
        return self.tta("run", "specs/calculator.md", "--async", "--target", "staging", "--budget", str(BUDGET_S))

    def record(self, run_id: str) -> RunRecord:
        """How the run stands."""
        chosen = Settings.model_validate(
            {"broker_url": self.environment["TTA_BROKER_URL"], "key_prefix": self.environment["TTA_KEY_PREFIX"]}
        )
        return Ledger.connect(chosen).run(run_id)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, that keeps what it has on disk."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.end()


def site(name: str, folder: Path, server: Server) -> Iterator[Site]:
    """A site, with its workers at work."""
    home = folder / name
    repository = home / "calculator"
    shutil.copytree(CALCULATOR, repository, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=repository, check=True)  # noqa: S607
    targets = home / "targets.toml"
    targets.write_text(f'[environments.staging]\npath = "{home}/releases"\n')
    environment = {
        "TTA_BROKER_URL": server.url,
        "TTA_KEY_PREFIX": f"{name}:",
        "TTA_CACHE_DIR": str(folder / "cache"),
        "TTA_TARGETS_FILE": str(targets),
        "TTA_VISIBILITY_TIMEOUT_S": "6",
        "TTA_RECONCILE_INTERVAL_S": "1",
    }
    crew = Crew(home, (*CELERY, "--concurrency", "1", "--without-gossip", "--without-mingle"), environment)
    for number in range(WORKERS):
        crew.start(number)
    yield Site(repository, environment, crew)
    crew.end()


@pytest.fixture
def calm(tmp_path: Path, server: Server) -> Iterator[Site]:
    yield from site("calm", tmp_path, server)


@pytest.fixture
def storm(tmp_path: Path, server: Server) -> Iterator[Site]:
    yield from site("storm", tmp_path, server)


def outcome(run: RunRecord) -> dict[str, object]:
    """What came of each task, wherever and whenever it was done."""
    return {task.label: what_of(task) for task in run.tasks}


def what_of(task: TaskRecord) -> object:
    assert task.result is not None
    accepted = [test.name for test in task.result.accepted] if isinstance(task.result, GenerationResult) else []
    release = getattr(task.result, "release", None)
    return task.status, accepted, task.result.artifacts, release


def once_generating(command: subprocess.Popen[str]) -> str:
    """The id of a run of which some tests have been generated, and others are."""
    assert command.stdout is not None
    seen = ""
    while not re.search(r"completed +generate .*[\s\S]*running +generate", seen):
        line = command.stdout.readline()
        assert line, seen
        seen += line
    return str(re.findall(r"run ([0-9a-f]{12})", seen)[0])


def test_killed_and_resumed_a_run_has_the_result_of_an_undisturbed_one(calm: Site, storm: Site, server: Server) -> None:
    """The same tests accepted for each module, the same patches, tree and release; what was done is not done again."""
    undisturbed = calm.run()
    shown, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, shown
    calm_id = re.findall(r"run ([0-9a-f]{12})", shown)[0]
    calm.crew.stop()

    with storm.run() as command:
        run_id = once_generating(command)
        before = {task.id: task for task in storm.record(run_id).tasks if task.status.terminal}
        command.send_signal(signal.SIGKILL)
    assert any(task.stage is Stage.GENERATION for task in before.values())
    server.stop(signal.SIGKILL)
    for number in range(WORKERS):
        storm.crew.kill(number)
    server.start()
    for number in range(WORKERS):
        storm.crew.start(number)
    resumed = storm.tta("resume", run_id)
    shown, _ = resumed.communicate()
    assert resumed.returncode == 0, shown

    killed = storm.record(run_id)
    assert outcome(killed) == outcome(calm.record(calm_id))
    for task in killed.tasks:
        assert task.id not in before or task == before[task.id]
