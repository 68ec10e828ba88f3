"""The table of task kinds, and what derives from it or must agree with it."""

from __future__ import annotations

import typing
from types import SimpleNamespace
from typing import Any

import pytest

from tta_tasks.celery import app
from tta_tasks.errors import StoreUnavailable, TransientError, UsageError
from tta_tasks.kinds import BY_NAME, BY_TASK, KINDS, TASK_ROUTES, RetryPolicy, TaskKind, kind_of, longest_s
from tta_tasks.models import AnyRequest, AnyResult, Component, DeploymentRequest, Stage, Status
from tta_tasks.queues import NAMES
from tta_tasks.requests import failed, record_of
from tta_tasks.settings import Settings
from tta_tasks.tasks import DECLARED
from workers.stages import dispatch

DIGEST = "0" * 64
COMPONENT = Component(name="shop", modules=())


def _members(union: Any) -> set[type]:  # noqa: ANN401 - a special form
    return set(typing.get_args(typing.get_args(union)[0]))


def test_the_unions_of_models_hold_the_kinds() -> None:
    """Each kind's request and result travel, and no other does; ``kind`` names their row."""
    assert _members(AnyRequest) == {kind.request for kind in KINDS}
    assert _members(AnyResult) == {kind.result for kind in KINDS}
    for kind in KINDS:
        assert kind.request.model_fields["kind"].default == kind.name == kind.result.model_fields["kind"].default


def test_names_tasks_and_queues_are_not_shared() -> None:
    """A kind is found by its name and by its task; every queue has a kind."""
    assert len(BY_NAME) == len(BY_TASK) == len(KINDS)
    assert {kind.queue for kind in KINDS} == set(NAMES)
    assert {kind.task: {"queue": kind.queue} for kind in KINDS} == TASK_ROUTES


def test_every_kind_is_a_declared_task() -> None:
    """Celery knows the task of each kind by the name in the table, and routes it to the kind's queue."""
    assert {kind: task.name for kind, task in DECLARED.items()} == {kind.name: kind.task for kind in KINDS}
    for kind in KINDS:
        assert app.amqp.router.route({}, kind.task)["queue"].name == kind.queue


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_dispatched_to_its_stage(kind: TaskKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker hands the request of each kind to the stage of that name, and to no other."""
    for name in BY_NAME:
        monkeypatch.setattr(getattr(dispatch, name), "run", lambda request, _, stage=name: (stage, request))
    request: Any = kind.request.model_construct()
    task: Any = SimpleNamespace(request=request)
    result: Any = dispatch._run(task, typing.cast("Any", None))
    assert result == (kind.name, request)


@pytest.mark.parametrize(
    ("environment", "back_to", "stage", "label"),
    [
        ("staging", None, Stage.STAGING, "deploy to staging"),
        ("production", None, Stage.PRODUCTION, "deploy to production"),
        ("production", DIGEST, Stage.PRODUCTION, "roll back production"),
    ],
)
def test_a_record_takes_its_fields_from_the_table(
    environment: str, back_to: str | None, stage: Stage, label: str
) -> None:
    """Task, queue, label, stage and how the ledger treats it are those of the request's kind."""
    request = DeploymentRequest(snapshot=DIGEST, component=COMPONENT, environment=environment, back_to=back_to)
    record = record_of(request, "id")
    assert (record.name, record.queue, record.stage, record.label) == ("tta_tasks.deploy", "deployment", stage, label)
    assert (record.optional, record.gated) == (False, True)


def test_a_failure_is_a_result_of_the_kind() -> None:
    """What stands for work that was not done is a result of its own kind, with the error in it."""
    for kind in KINDS:
        result = failed(typing.cast("Any", kind.request.model_construct()), UsageError("No.", "Do this."))
        assert (type(result), result.status) == (kind.result, Status.FAILED)
        assert result.error is not None
        assert (result.error.type, result.error.hint, result.error.transient) == ("UsageError", "Do this.", False)


def test_only_optional_kinds_may_fail_in_a_run_that_completes() -> None:
    """A run goes on without generated tests, and without a refactoring; only a deployment has preconditions."""
    assert {kind.name for kind in KINDS if kind.optional} == {"generation", "refactoring"}
    assert {kind.name for kind in KINDS if kind.gated} == {"deployment"}
    assert {kind.name for kind in KINDS if not kind.cached} == {"deployment"}


def test_delays_double_within_their_jitter_up_to_the_most() -> None:
    """Each retry waits about twice as long as the last one, never outside the jitter, never above the limit."""
    policy = RetryPolicy(backoff_max_s=10)
    for retries, expected in enumerate((2, 4, 8, 10, 10)):
        delays = [policy.delay_s(retries) for _ in range(200)]
        assert expected * 0.5 <= min(delays) < expected < max(delays) <= expected * 1.5
    assert policy.longest_s == 1.5 * (2 + 4 + 8 + 10 + 10)
    assert RetryPolicy(jitter=0).delay_s(2) == 8


def test_transient_errors_are_retried() -> None:
    """By default those that may pass, of any kind, and no others."""
    for kind in KINDS:
        assert issubclass(StoreUnavailable, kind.retry.retry_on)
        assert kind.retry.retry_on == (TransientError,)


def test_a_kind_may_have_a_time_limit_of_its_own() -> None:
    """Without, that of the settings counts; the longest of all decides how long a broker waits for a message."""
    settings = Settings(task_timeout_s=100, task_grace_s=5)
    assert {kind.time_limits(settings) for kind in KINDS} == {(105, 100)}
    own = TaskKind(**{**vars(KINDS[0]), "timeout_s": 7})
    assert own.time_limits(settings) == (12, 7)
    assert longest_s(settings) == 105


def test_a_request_of_no_kind_is_refused() -> None:
    """What is no row of the table has no kind."""
    with pytest.raises(KeyError):
        kind_of(typing.cast("Any", SimpleNamespace(kind="dancing")))
