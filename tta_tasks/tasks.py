"""The declared tasks.

A task that the client submitted finds its request in the ledger, by its id; one that was published on its own, with
``generate_tests.delay(request.model_dump(mode="json"))``, brings it along.

Their bodies are thin: what a worker does with a task's message is found by entry point (``deliver`` of
``tta_tasks.worker``), so that a producer can build typed signatures without importing one engine.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from celery import Task

from tta_tasks import plugins
from tta_tasks.celery import app


class Deliver(Protocol):
    """What the entry point ``deliver`` of ``tta_tasks.worker`` names: what a worker does with a task's message."""

    def __call__(self, task: Task[..., Any], request: dict[str, Any] | None) -> dict[str, str]:
        """Take ``task`` from its message to its end in the ledger; answer where that is."""


def _deliver(task: Task[..., Any], request: dict[str, Any] | None) -> dict[str, str]:
    return cast("Deliver", plugins.load(plugins.WORKER, "deliver"))(task, request)


@app.task(name="tta_tasks.run_tests", bind=True)
def run_tests(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
    """Run a component's tests and measure their coverage (:class:`~tta_tasks.models.TestingRequest`)."""
    return _deliver(self, request)


@app.task(name="tta_tasks.generate_tests", bind=True)
def generate_tests(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
    """Write the missing tests of one module (:class:`~tta_tasks.models.GenerationRequest`)."""
    return _deliver(self, request)


@app.task(name="tta_tasks.refactor", bind=True)
def refactor(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
    """Refactor a component (:class:`~tta_tasks.models.RefactoringRequest`)."""
    return _deliver(self, request)


@app.task(name="tta_tasks.collect", bind=True)
def collect(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
    """Combine and verify what the others made (:class:`~tta_tasks.models.CollectionRequest`)."""
    return _deliver(self, request)


@app.task(name="tta_tasks.deploy", bind=True)
def deploy(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
    """Release a collected tree to one environment (:class:`~tta_tasks.models.DeploymentRequest`)."""
    return _deliver(self, request)


#: The task that carries out each kind of request.
DECLARED: dict[str, Task[..., Any]] = {
    "testing": run_tests,
    "generation": generate_tests,
    "refactoring": refactor,
    "collection": collect,
    "deployment": deploy,
}
