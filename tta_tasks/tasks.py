"""The declared tasks.

A task that the client submitted finds its request in the ledger, by its id; one that was published on its own, with
``generate_tests.delay(request.model_dump(mode="json"))``, brings it along.

Their bodies are thin: what a worker does with a task's message is found by entry point (``deliver`` of
``tta_tasks.worker``), so that a producer can build typed signatures without importing one engine.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from celery import Task

from tta_tasks import plugins
from tta_tasks.celery import app
from tta_tasks.kinds import KINDS, TaskKind


class Deliver(Protocol):
    """What the entry point ``deliver`` of ``tta_tasks.worker`` names: what a worker does with a task's message."""

    def __call__(self, task: Task[..., Any], request: dict[str, Any] | None) -> dict[str, str]:
        """Take ``task`` from its message to its end in the ledger; answer where that is."""


def _declare(kind: TaskKind) -> Task[..., Any]:
    def deliver(self: Task[..., Any], request: dict[str, Any] | None = None) -> dict[str, str]:
        return cast("Deliver", plugins.load(plugins.WORKER, "deliver"))(self, request)

    deliver.__name__ = kind.task.rpartition(".")[2]
    deliver.__doc__ = kind.request.__doc__
    return app.task(name=kind.task, bind=True)(deliver)


#: Kind of request -> the task that carries it out.
DECLARED: Final = {kind.name: _declare(kind) for kind in KINDS}

#: Runs a component's tests and measures their coverage (:class:`~tta_tasks.models.TestingRequest`).
run_tests = DECLARED["testing"]
#: Writes the missing tests of one module (:class:`~tta_tasks.models.GenerationRequest`).
generate_tests = DECLARED["generation"]
#: Refactors a component (:class:`~tta_tasks.models.RefactoringRequest`).
refactor = DECLARED["refactoring"]
#: Combines and verifies what the others made (:class:`~tta_tasks.models.CollectionRequest`).
collect = DECLARED["collection"]
#: Releases a collected tree to one environment (:class:`~tta_tasks.models.DeploymentRequest`).
deploy = DECLARED["deployment"]
