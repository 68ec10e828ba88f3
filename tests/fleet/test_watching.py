"""Canary, exporter and ``tta top``: whether work is done, and what is seen of it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from orchestrator.cli import main
from orchestrator.exporter import FleetCollector
from orchestrator.watch.fleet import picture
from tta_tasks import canary
from tta_tasks.cache import ResultCache
from tta_tasks.fleet import Fleet as View
from tta_tasks.ledger import Ledger
from tta_tasks.models import GenerationResult, ModuleCoverage, Stage, Status, Usage
from tta_tasks.settings import Settings

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

TTA = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@pytest.fixture
def view(fleet: Fleet) -> View:
    canary._redis.cache_clear()
    return View(fleet.client.ledger, fleet.settings)


def figures(view: View) -> dict[tuple[str, ...], float]:
    """What Prometheus reads: name and values of the labels, these by name -> value."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(view))
    text = generate_latest(registry).decode()
    if (promtool := shutil.which("promtool")) is not None:
        subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True, timeout=30)
    else:
        assert not os.environ.get("CI"), "CI must have promtool"
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.usefixtures("view")
def test_canary_proves_that_tasks_are_done(fleet: Fleet) -> None:
    """A queue is healthy when a worker takes its tasks, and not because one takes those of another."""
    fleet.start(queues=["testing"])
    assert canary.answered("testing", within_s=30)
    assert not canary.answered("deployment", within_s=1)


@pytest.mark.slow
def test_busy_workers_are_healthy(fleet: Fleet, view: View, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """While all slots are taken by tasks that show signs of life no canary is done, and all is well all the same."""
    fleet.start(slots=1)
    assert canary.answered("openhands", within_s=30)
    assert not canary.busy("openhands", view.look())
    run = fleet.submit(["one_waits"])
    eventually(lambda: canary.busy("openhands", view.look()))
    fleet.client.cancel_run(run)
    fleet.ended(run)


@pytest.mark.slow
def test_commands_say_whether_a_worker_does_its_work(fleet: Fleet, tmp_path: Path) -> None:
    """`tta worker` gives its worker a name; `tta health --here` knows it, and says so where none was started."""
    environment = {**os.environ, "TTA_BROKER_URL": fleet.settings.broker, "TTA_CACHE_DIR": str(tmp_path / "cache")}
    worker = subprocess.Popen(
        [*TTA, "worker", "testing", "--log-level", "ERROR"], env=environment, cwd=tmp_path, start_new_session=True
    )
    fleet.workers.append(worker)

    def health(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        argv = [*TTA, "health", "testing", *options]
        return subprocess.run(
            argv, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )

    assert health(tmp_path, "--timeout=30").returncode == 0
    assert health(tmp_path, "--here").stdout == "testing: tasks are done\n"
    (tmp_path / "elsewhere").mkdir()
    elsewhere = health(tmp_path / "elsewhere", "--here")
    assert elsewhere.returncode == 3
    assert "none was started here" in elsewhere.stderr
    worker.terminate()
    assert worker.wait(20) == 0


def test_figures_tell_what_waits_and_what_was_done(fleet: Fleet, view: View) -> None:
    """The exporter's text is what Prometheus reads; depth, ends and durations are those of the runs."""
    fleet.start()
    fleet.ended(fleet.submit(["one", "two_fails"]))
    fleet.kill(fleet.workers[0])
    fleet.submit(["three"])
    found = figures(view)
    assert found["tta_up",] == 1
    assert found["tta_queue_waiting", "normal", "testing"] == 1
    assert found["tta_queue_waiting", "critical", "testing"] == 0
    assert 0 <= found["tta_queue_oldest_seconds", "normal", "testing"] < 60
    assert found["tta_queue_open", "openhands"] == 1
    assert found["tta_ended_total", "generation", "completed"] == 1
    assert found["tta_ended_total", "generation", "failed"] == 1
    assert found["tta_runs_total", "completed"] == 1
    assert found["tta_task_seconds_count", "generation"] == 2
    assert found["tta_task_seconds_bucket", "+Inf", "generation"] == 2
    assert found["tta_run_seconds_bucket", "14400.0", "completed"] == 1


def test_what_agents_took_is_counted_once(fleet: Fleet, view: View) -> None:
    """Tokens, cost, tests and coverage gained count when the work is done, not when it is answered from the cache."""
    run = fleet.client.ledger.run(fleet.submit(["one", "two"]))
    first, second = (task for task in run.tasks if task.stage is Stage.GENERATION)
    before, after = (
        ModuleCoverage(path="a.py", statements=9, covered_statements=n, branches=0, covered_branches=0) for n in (2, 7)
    )
    usage = Usage(prompt_tokens=100, completion_tokens=20, cost_usd=0.25)
    result = GenerationResult(status=Status.COMPLETED, coverage_before=before, coverage_after=after, usage=usage)
    assert view.look().counters == {}
    fleet.client.ledger.finish(first, result)
    fleet.client.ledger.finish(second, result.model_copy(update={"cached": True}))
    found = figures(view)
    assert found["tta_tokens_total", "prompt"] == 100
    assert found["tta_tokens_total", "completion"] == 20
    assert found["tta_cost_usd_total",] == 0.25
    assert found["tta_statements_gained_total",] == 5
    assert found["tta_cached_total", "generation"] == 1


def test_dead_broker_is_a_figure() -> None:
    """Without a broker the exporter still answers: that it is down."""
    chosen = Settings.model_validate({"broker_url": "redis://127.0.0.1:1/0"})
    assert figures(View(Ledger.connect(chosen), chosen)) == {("tta_up",): 0.0}


def test_top_shows_queues_and_workers(fleet: Fleet, view: View) -> None:
    """`tta top` shows each queue with its depth, who works on it, and which queue has nobody."""
    fleet.client.ledger.worker_registry.register("test-0@host", ["openhands"], slots=2)
    fleet.submit(["one"])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(view.look(), "redis://broker"))
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}
    assert "normal 1" in lines["testing"]
    assert "nobody" in lines["testing"]
    assert "nobody" not in lines["openhands"]
    assert "openhands" in lines["test-0@host"]


def test_cache_is_shown_and_cleared(fleet: Fleet) -> None:
    """How many results there are, how often they answered; cleared, there are none, and nothing is asked with --yes."""
    kept = ResultCache(fleet.settings)
    kept.put("a" * 64, {"status": "completed"})
    fleet.client.ledger.count("cached:generation", 3)
    fleet.client.ledger.count("ended:generation:completed", 4)
    shown = CliRunner().invoke(main, ["cache", "show"])
    assert "1 of 20,000" in shown.output
    assert "3 of 4 tasks that ended (75%)" in shown.output
    assert CliRunner().invoke(main, ["cache", "clear"], input="n\n").exit_code == 1
    assert kept.usage().results == 1
    assert "1 results are forgotten" in CliRunner().invoke(main, ["cache", "clear", "--yes"]).output
    assert (kept.usage(), kept.get("a" * 64)) == ((0, 0), None)
