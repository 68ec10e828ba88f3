"""The kinds of task: one row each, from which routes, ledger fields, labels and results derive.

To add a kind: a row here, its request and result in :mod:`tta_tasks.models` (and in the unions there), and a stage that
``workers/stages/dispatch.py`` calls; ``tests/tta_tasks/test_kinds.py`` fails while one of them is missing. If producers
name its task, :mod:`tta_tasks.tasks` gives it a name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tta_tasks.errors import TransientError, TtaError
from tta_tasks.models import (
    CollectionRequest,
    CollectionResult,
    DeploymentRequest,
    DeploymentResult,
    GenerationRequest,
    GenerationResult,
    RefactoringRequest,
    RefactoringResult,
    Request,
    Result,
    Stage,
    TestingRequest,
    TestingResult,
)
from tta_tasks.queues import COLLECTION, DEPLOYMENT, OPENHANDS, REFACTORING, TESTING
from tta_tasks.settings import Settings


@dataclass(frozen=True)
class RetryPolicy:
    """When a task is attempted again.

    The fields are those of Celery (``max_retries``, ``retry_backoff``, ``retry_backoff_max``, ``retry_jitter``) and of
    Temporal's ``RetryPolicy``. A retry waits for ``backoff_s * backoff_factor ** retries``, spread by ``jitter``.
    """

    #: Most retries after the first attempt.
    max_retries: int = 5
    #: Seconds before the first retry.
    backoff_s: float = 2.0
    backoff_factor: float = 2.0
    #: Most seconds before a retry, without jitter.
    backoff_max_s: float = 600.0
    #: Share of the delay by which it varies, either way, 0 to 1; so that tasks do not return together.
    jitter: float = 0.5
    #: The errors after which it is attempted again; any other ends the task as failed.
    retry_on: tuple[type[TtaError], ...] = (TransientError,)
    #: Most times that the task may be lost with its worker before it is given up as a dead letter.
    max_losses: int = 3

    def delay_s(self, retries: int) -> float:
        """Seconds to wait before the next attempt.

        Args:
            retries: Retries so far.
        """
        delay = min(self.backoff_s * self.backoff_factor**retries, self.backoff_max_s)
        return delay * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - only spreads retries

    @property
    def longest_s(self) -> float:
        """The most seconds that all retries together can wait."""
        delays = (self.backoff_s * self.backoff_factor**retries for retries in range(self.max_retries))
        return (1 + self.jitter) * sum(min(delay, self.backoff_max_s) for delay in delays)


@dataclass(frozen=True)
class TaskKind:
    """A kind of task."""

    #: What requests and results call it (``kind``).
    name: str
    #: Name of the declared Celery task.
    task: str
    queue: str
    request: type[Request]
    result: type[Result]
    #: What a person calls a task of this kind, from its request.
    label: Callable[[Any], str]
    #: The stage that it belongs to, from its request.
    stage: Callable[[Any], Stage]
    #: Whether a run goes on, and may complete, when it fails.
    optional: bool = False
    #: Whether preconditions are checked before it begins (the entry point ``promote``); it may be parked meanwhile.
    gated: bool = False
    #: Whether an earlier result stands for it when all that it depends on is the same.
    cached: bool = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Seconds after which it is ended; ``None`` for ``TTA_TASK_TIMEOUT_S``.
    timeout_s: int | None = None

    def time_limits(self, settings: Settings) -> tuple[int, int]:
        """Seconds after which it is killed, and after which it is asked to end, as Celery orders its limits."""
        soft = self.timeout_s or settings.task_timeout_s
        return soft + settings.task_grace_s, soft


def _deployment(request: DeploymentRequest) -> str:
    return f"{'roll back' if request.back_to else 'deploy to'} {request.environment}"


def _environment(request: DeploymentRequest) -> Stage:
    return Stage.STAGING if request.environment == Stage.STAGING else Stage.PRODUCTION


KINDS: Final[tuple[TaskKind, ...]] = (
    TaskKind(
        name="testing",
        task="tta_tasks.run_tests",
        queue=TESTING,
        request=TestingRequest,
        result=TestingResult,
        label=lambda _: "test",
        stage=lambda _: Stage.TESTING,
    ),
    TaskKind(
        name="generation",
        task="tta_tasks.generate_tests",
        queue=OPENHANDS,
        request=GenerationRequest,
        result=GenerationResult,
        label=lambda request: f"generate {request.module.name}",
        stage=lambda _: Stage.GENERATION,
        optional=True,
    ),
    TaskKind(
        name="refactoring",
        task="tta_tasks.refactor",
        queue=REFACTORING,
        request=RefactoringRequest,
        result=RefactoringResult,
        label=lambda _: "refactor",
        stage=lambda _: Stage.REFACTORING,
        optional=True,
    ),
    TaskKind(
        name="collection",
        task="tta_tasks.collect",
        queue=COLLECTION,
        request=CollectionRequest,
        result=CollectionResult,
        label=lambda _: "collect",
        stage=lambda _: Stage.COLLECTION,
    ),
    TaskKind(
        name="deployment",
        task="tta_tasks.deploy",
        queue=DEPLOYMENT,
        request=DeploymentRequest,
        result=DeploymentResult,
        label=_deployment,
        stage=_environment,
        gated=True,
        cached=False,
    ),
)

BY_NAME: Final = {kind.name: kind for kind in KINDS}
#: Name of the declared task -> its kind.
BY_TASK: Final = {kind.task: kind for kind in KINDS}
#: Celery's ``task_routes``.
TASK_ROUTES: Final = {kind.task: {"queue": kind.queue} for kind in KINDS}


def kind_of(request: Request) -> TaskKind:
    """The kind of task that carries out ``request``.

    Raises:
        KeyError: No kind takes such a request.
    """
    return BY_NAME[getattr(request, "kind", "")]


def longest_s(settings: Settings) -> int:
    """The most seconds that a task of any kind may take before it is killed."""
    return max(kind.time_limits(settings)[0] for kind in KINDS)
