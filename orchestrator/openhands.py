"""The documented names for test generation by OpenHands agents, thin over the client.

``OpenHandsTestGenerator`` hands in the tests of one module at a time and gives their results back; the two stages do so
for all modules of a component, waiting for each other or not. Whether agents or the embedded engine write the tests is
the worker's business (``engine="auto"``): pass ``engine="openhands"`` to insist on agents.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from orchestrator.planner import find_component
from tta_tasks.client import AsyncTaskClient
from tta_tasks.errors import ComponentError, RecordMissing, TtaError
from tta_tasks.models import Component, GenerationRequest, GenerationResult, Module, Priority, Status, TaskRecord

DEFAULT_TIMEOUT_S = 300.0


class OpenHandsTestGenerator:
    """Generates tests module by module, without blocking.

    An asynchronous context manager.

    Args:
        client: Where tasks are handed in.
        repository: The repository that module paths are relative to.
        default_timeout_seconds: How long results are waited for, unless a call says otherwise.
        engine: Engine that writes the tests.
    """

    def __init__(
        self,
        client: AsyncTaskClient,
        repository: Path = Path(),
        *,
        default_timeout_seconds: float = DEFAULT_TIMEOUT_S,
        engine: str = "auto",
    ) -> None:
        self._client = client
        self._repository = repository
        self._default_timeout_s = default_timeout_seconds
        self._engine = engine
        #: Its digest, once it is stored.
        self._snapshot: str | None = None

    @classmethod
    def from_env(cls, repository: Path = Path(), *, engine: str = "auto") -> Self:
        """A generator for the installation that the environment names.

        Raises:
            SettingsError: No broker is named.
        """
        return cls(AsyncTaskClient.connect(), repository, engine=engine)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.close()

    async def submit_test_generation_task(
        self, module_path: str, output_path: str | None = None, coverage_threshold: int = 80
    ) -> str:
        """Hand in the tests of one module, with HIGH priority, and return at once.

        Args:
            module_path: The module's file, relative to the repository.
            output_path: Where its tests should go, relative to the repository; by default the repository's habit.
            coverage_threshold: Line and branch coverage to reach, in %.

        Returns:
            The task's id.

        Raises:
            ComponentError: No component of the repository has this module.
            QueueFull: Too many tasks wait already.
            BrokerUnavailable: The broker does not answer.
        """
        component, module = await asyncio.to_thread(_locate, self._repository, module_path)
        if self._snapshot is None:
            self._snapshot = await self._client.store_snapshot(self._repository)
        root = PurePosixPath(component.root)
        request = GenerationRequest(
            snapshot=self._snapshot,
            component=component.model_copy(update={"modules": (module,)}),
            module=module,
            engine=self._engine,
            coverage_threshold=coverage_threshold,
            output_path=None if output_path is None else PurePosixPath(output_path).relative_to(root).as_posix(),
        )
        return await self._client.submit(request, priority=Priority.HIGH)

    async def get_test_generation_results(
        self,
        task_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - documented
        poll_interval: float = 2.0,
    ) -> dict[str, Any]:
        """Wait for the tests of one module.

        Args:
            task_id: The task.
            timeout: Seconds; by default ``default_timeout_seconds``.
            poll_interval: Kept from the documents: results are waited for, not polled. A lost notification is made up
                for within 2 s whatever it says.

        Returns:
            ``success``, ``task_id``, ``module_path``, ``coverage``, ``test_file_path``, ``tests_accepted``,
            ``tests_rejected``, ``patch``, ``error`` and ``metadata``.

        Raises:
            TimeoutError: It has not ended in time; it goes on.
            RuntimeError: No such task, or it failed or was cancelled.
        """
        del poll_interval
        try:
            result = await self._client.result(task_id, self._default_timeout_s if timeout is None else timeout)
            record = await self._client.status(task_id)
        except RecordMissing as error:
            raise RuntimeError(f"Task not found: {task_id}. {error.hint}") from error
        if not result.ok:
            reason = result.error.message if result.error else result.status.value
            raise RuntimeError(f"Task {task_id} {result.status.value}: {reason}")
        return _as_results(record)

    async def get_task_status(self, task_id: str) -> dict[str, Any]:
        """Where a task stands, without waiting.

        Returns:
            ``task_id``, ``status`` (``QUEUED``, ``RUNNING``, ``COMPLETED``, ``FAILED``, ``SKIPPED`` or
            ``CANCELLED``), ``priority``, ``queue``, ``worker``, ``progress``, ``retry_count``, ``created_at``,
            ``started_at``, ``completed_at`` (epoch seconds or ``None``) and ``error``.

        Raises:
            RuntimeError: No such task.
        """
        try:
            record = await self._client.status(task_id)
        except RecordMissing as error:
            raise RuntimeError(f"Task not found: {task_id}. {error.hint}") from error
        return {
            "task_id": record.id,
            "status": record.status.name,
            "priority": record.priority.upper(),
            "queue": record.queue,
            "worker": record.worker,
            "progress": record.progress,
            "retry_count": max(record.attempts - 1, 0),
            "created_at": record.submitted_at,
            "started_at": record.started_at,
            "completed_at": record.finished_at,
            "error": record.result.error.message if record.result and record.result.error else None,
        }

    async def generate_tests(
        self,
        module_path: str,
        output_path: str | None = None,
        coverage_threshold: int = 80,
        timeout: float | None = None,  # noqa: ASYNC109 - documented
    ) -> dict[str, Any]:
        """Hand in and wait: the blocking form; see the two methods it is made of for arguments and errors."""
        task_id = await self.submit_test_generation_task(module_path, output_path, coverage_threshold)
        return await self.get_test_generation_results(task_id, timeout)


@dataclass(frozen=True)
class OpenHandsStageResult:
    """What the blocking stage made."""

    success: bool
    tests_generated: int
    #: Module path -> results as of ``get_test_generation_results``.
    results: Mapping[str, dict[str, Any]]
    #: Module path -> why there are none.
    errors: Mapping[str, str] = field(default_factory=dict)
    execution_time_ms: float = 0.0


@dataclass(frozen=True)
class AsyncOpenHandsStageResult(OpenHandsStageResult):
    """What the non-blocking stage made, and when."""

    #: Module path -> task id.
    submitted_tasks: Mapping[str, str] = field(default_factory=dict)
    submission_time_ms: float = 0.0
    collection_time_ms: float = 0.0


class OpenHandsTestGenerationStage:
    """All modules of a component, one after another.

    Args:
        repository: The repository.
        component_name: The component; by default the only one there is.
        config: ``coverage_threshold`` (%, 80), ``timeout_seconds`` (300) and ``poll_interval_seconds`` (2.0).
        generator: The generator; by default one of the environment.
    """

    def __init__(
        self,
        repository: Path = Path(),
        component_name: str | None = None,
        config: Mapping[str, Any] | None = None,
        generator: OpenHandsTestGenerator | None = None,
    ) -> None:
        chosen = dict(config or {})
        self._repository = repository
        self._component_name = component_name
        self._threshold = int(chosen.get("coverage_threshold", 80))
        self._timeout_s = float(chosen.get("timeout_seconds", DEFAULT_TIMEOUT_S))
        self._poll_s = float(chosen.get("poll_interval_seconds", 2.0))
        self._generator = generator

    async def execute(self) -> OpenHandsStageResult:
        """Generate the tests of every module, waiting for each before the next is handed in.

        Raises:
            ComponentError: The component cannot be found.
        """
        started = time.monotonic()
        results: dict[str, dict[str, Any]] = {}
        errors: dict[str, str] = {}
        async with self._opened() as generator:
            for path in await asyncio.to_thread(self._module_paths):
                try:
                    results[path] = await generator.generate_tests(
                        path, coverage_threshold=self._threshold, timeout=self._timeout_s
                    )
                except (RuntimeError, TimeoutError, TtaError) as error:
                    errors[path] = str(error)
        return OpenHandsStageResult(
            success=not errors,
            tests_generated=_accepted(results),
            results=results,
            errors=errors,
            execution_time_ms=_ms_since(started),
        )

    def _opened(self) -> OpenHandsTestGenerator:
        if self._generator is None:
            self._generator = OpenHandsTestGenerator.from_env(self._repository)
        return self._generator

    def _module_paths(self) -> list[str]:
        component = find_component(self._repository, name=self._component_name)
        root = PurePosixPath(component.root)
        return [(root / module.path).as_posix() for module in component.modules]


class AsyncOpenHandsTestGenerationStage(OpenHandsTestGenerationStage):
    """All modules of a component at once: hand in now, collect later. Arguments as of the blocking stage."""

    async def submit_tasks(self, module_paths: Sequence[str] | None = None) -> dict[str, str]:
        """Hand in every module (or those named) and return at once.

        Returns:
            Module path -> task id.

        Raises:
            ComponentError: The component, or one of the modules, cannot be found.
        """
        generator = self._opened()
        return {
            path: await generator.submit_test_generation_task(path, coverage_threshold=self._threshold)
            for path in (await asyncio.to_thread(self._module_paths) if module_paths is None else module_paths)
        }

    async def collect_results(self, submitted_tasks: Mapping[str, str]) -> AsyncOpenHandsStageResult:
        """Wait for tasks that were handed in; those that fail or time out cost only themselves."""
        started = time.monotonic()
        generator = self._opened()

        async def collect(task_id: str) -> dict[str, Any] | str:
            try:
                return await generator.get_test_generation_results(task_id, self._timeout_s, self._poll_s)
            except (RuntimeError, TimeoutError, TtaError) as error:
                return str(error)

        ended = await asyncio.gather(*(collect(task_id) for task_id in submitted_tasks.values()))
        found = dict(zip(submitted_tasks, ended, strict=True))
        results = {path: result for path, result in found.items() if isinstance(result, dict)}
        errors = {path: result for path, result in found.items() if isinstance(result, str)}
        return AsyncOpenHandsStageResult(
            success=not errors,
            tests_generated=_accepted(results),
            results=results,
            errors=errors,
            submitted_tasks=dict(submitted_tasks),
            collection_time_ms=_ms_since(started),
        )

    async def execute(self) -> AsyncOpenHandsStageResult:
        """Hand in all modules, then collect all results."""
        started = time.monotonic()
        async with self._opened():
            submitted = await self.submit_tasks()
            submission_ms = _ms_since(started)
            collected = await self.collect_results(submitted)
        return AsyncOpenHandsStageResult(
            success=collected.success,
            tests_generated=collected.tests_generated,
            results=collected.results,
            errors=collected.errors,
            execution_time_ms=_ms_since(started),
            submitted_tasks=submitted,
            submission_time_ms=submission_ms,
            collection_time_ms=collected.collection_time_ms,
        )


def _locate(repository: Path, module_path: str) -> tuple[Component, Module]:
    """The component of ``repository`` that has the module, and the module."""
    wanted = PurePosixPath(module_path)
    for folder in wanted.parents:
        if folder != PurePosixPath(".") and not (repository / folder / "pyproject.toml").is_file():
            continue
        component = find_component(repository, root=folder.as_posix())
        for module in component.modules:
            if PurePosixPath(component.root) / module.path == wanted:
                return component, module
    raise ComponentError(
        f"No component of {repository} has a module {module_path}.", "Name its file, relative to the repository."
    )


def _as_results(record: TaskRecord) -> dict[str, Any]:
    result = record.result
    if not isinstance(result, GenerationResult):
        raise TypeError(f"Task {record.id} is {record.label!r}, and generates no tests.")
    return {
        "success": record.status is Status.COMPLETED,
        "task_id": record.id,
        "module_path": result.module.path if result.module else "",
        "coverage": result.coverage_after.percent if result.coverage_after else 0.0,
        "test_file_path": result.files[0] if result.files else None,
        "tests_accepted": len(result.accepted),
        "tests_rejected": len(result.rejected),
        "patch": result.patch,
        "error": None,
        "metadata": {
            "engines": list(result.engines),
            "threshold_met": result.threshold_met,
            "cached": result.cached,
            "worker": record.worker,
            "attempts": record.attempts,
        },
    }


def _accepted(results: Mapping[str, dict[str, Any]]) -> int:
    return sum(result["tests_accepted"] for result in results.values())


def _ms_since(started: float) -> float:
    return (time.monotonic() - started) * 1000
