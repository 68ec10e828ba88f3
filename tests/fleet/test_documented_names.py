"""The documented producer names keep their signatures, defaults, statuses and errors, over real workers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.openhands import (
    AsyncOpenHandsTestGenerationStage,
    OpenHandsTestGenerationStage,
    OpenHandsTestGenerator,
)
from orchestrator.workflow import WorkflowOrchestrator
from tta_tasks.errors import ComponentError
from tta_tasks.models import Priority

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose modules' names say what their tasks do."""
    root = tmp_path / "repository"
    package = root / "src" / "widget"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "widget"\nversion = "1"\n')
    for name in ("fine", "it_fails", "it_waits"):
        (package / f"{name}.py").write_text("def f():\n    return 1\n")
    return root


def run(repository: Path, do: Callable[[OpenHandsTestGenerator], Awaitable[None]]) -> None:
    async def within() -> None:
        async with OpenHandsTestGenerator.from_env(repository) as generator:
            await do(generator)

    asyncio.run(within())


def test_signatures_are_the_documented_ones() -> None:
    """Names, order and defaults of the three methods."""
    submit = inspect.signature(OpenHandsTestGenerator.submit_test_generation_task)
    results = inspect.signature(OpenHandsTestGenerator.get_test_generation_results)
    status = inspect.signature(OpenHandsTestGenerator.get_task_status)
    defaults = [
        {name: each.default for name, each in found.parameters.items() if each.default is not each.empty}
        for found in (submit, results, status)
    ]
    assert list(submit.parameters) == ["self", "module_path", "output_path", "coverage_threshold"]
    assert list(results.parameters) == ["self", "task_id", "timeout", "poll_interval"]
    assert list(status.parameters) == ["self", "task_id"]
    assert defaults == [{"output_path": None, "coverage_threshold": 80}, {"timeout": None, "poll_interval": 2.0}, {}]


def test_submission_returns_at_once_with_high_priority(fleet: Fleet, repository: Path) -> None:
    """Without any worker an id comes back; its task is queued, HIGH, on the queue for agents."""

    async def do(generator: OpenHandsTestGenerator) -> None:
        task_id = await generator.submit_test_generation_task("src/widget/fine.py", coverage_threshold=90)
        status = await generator.get_task_status(task_id)
        assert (status["status"], status["priority"], status["queue"]) == ("QUEUED", "HIGH", "openhands")
        assert (status["retry_count"], status["started_at"], status["completed_at"]) == (0, None, None)
        record = fleet.client.status(task_id)
        assert record.priority == Priority.HIGH
        with pytest.raises(TimeoutError):
            await generator.get_test_generation_results(task_id, timeout=0.1)

    run(repository, do)


def test_submit_do_something_else_collect(fleet: Fleet, repository: Path) -> None:
    """The documented flow: submit, look, collect."""
    fleet.start()

    async def do(generator: OpenHandsTestGenerator) -> None:
        task_id = await generator.submit_test_generation_task("src/widget/fine.py")
        result = await generator.get_test_generation_results(task_id, timeout=30, poll_interval=5.0)
        assert result["success"]
        assert result["module_path"] == "src/widget/fine.py"
        assert (await generator.get_task_status(task_id))["status"] == "COMPLETED"
        assert (await generator.generate_tests("src/widget/fine.py", timeout=30))["success"]

    run(repository, do)


def test_failed_unknown_and_foreign_are_told(fleet: Fleet, repository: Path) -> None:
    """A failed task and an unknown id are a RuntimeError, an unknown module a ComponentError."""
    fleet.start()

    async def do(generator: OpenHandsTestGenerator) -> None:
        task_id = await generator.submit_test_generation_task("src/widget/it_fails.py")
        with pytest.raises(RuntimeError, match=r"failed: It gave up\."):
            await generator.get_test_generation_results(task_id, timeout=30)
        with pytest.raises(RuntimeError, match="Task not found: nope"):
            await generator.get_task_status("nope")
        with pytest.raises(RuntimeError, match="Task not found: nope"):
            await generator.get_test_generation_results("nope")
        with pytest.raises(ComponentError, match=r"has a module src/widget/other\.py"):
            await generator.submit_test_generation_task("src/widget/other.py")

    run(repository, do)


def test_async_stage_collects_what_it_can(fleet: Fleet, repository: Path) -> None:
    """All modules are handed in at once; one that fails and one that times out cost only themselves."""
    fleet.start()

    async def collect() -> None:
        stage = AsyncOpenHandsTestGenerationStage(repository)
        submitted = await stage.submit_tasks()
        assert sorted(submitted) == ["src/widget/fine.py", "src/widget/it_fails.py", "src/widget/it_waits.py"]
        waiting = {path: submitted.pop(path) for path in ["src/widget/it_waits.py"]}
        collected = await stage.collect_results(submitted)
        assert not collected.success
        assert list(collected.results) == ["src/widget/fine.py"]
        assert "It gave up." in collected.errors["src/widget/it_fails.py"]
        impatient = AsyncOpenHandsTestGenerationStage(repository, config={"timeout_seconds": 0.2})
        late = await impatient.collect_results(waiting)
        assert "has not ended within 0.2 s" in late.errors["src/widget/it_waits.py"]
        fleet.client.cancel(waiting["src/widget/it_waits.py"])

    asyncio.run(collect())


def test_blocking_stage_goes_through_all_modules(fleet: Fleet, repository: Path) -> None:
    """The synchronous form does the modules one after another, and reports the same."""
    fleet.start()
    (repository / "src" / "widget" / "it_waits.py").unlink()
    result = asyncio.run(OpenHandsTestGenerationStage(repository).execute())
    assert not result.success
    assert list(result.results) == ["src/widget/fine.py"]
    assert list(result.errors) == ["src/widget/it_fails.py"]


def test_run_that_is_awaited_no_more_goes_on(
    fleet: Fleet, repository: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Cancelled, the awaiting ends with its thread, which `asyncio.run` waits for; the run does not."""
    (repository / "spec.md").write_text("# Widget\n\nIt works.\n")
    config = {"repository": repository, "poll_interval_seconds": 0.1}

    async def give_up() -> None:
        workflow = WorkflowOrchestrator("spec.md", config=config)
        awaited = asyncio.ensure_future(workflow.run_async_with_parallel_openhands())
        await asyncio.to_thread(eventually, lambda: bool(fleet.client.ledger.runs(1)))
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    asyncio.run(give_up())
    (run_id,) = fleet.client.ledger.runs(1)
    assert not fleet.client.ledger.run(run_id).status.terminal
