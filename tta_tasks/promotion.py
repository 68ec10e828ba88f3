"""What people decide of parked deployments, and how such a deployment ends when they do not.

Deployments are parked by the worker that gets their message (``workers/stages/promotion.py``), as its targets say.
"""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime
from typing import Literal

from tta_tasks import publishing
from tta_tasks.errors import DeploymentFailed, UsageError
from tta_tasks.ledger import GRACE_S, Ledger
from tta_tasks.ledger.parking import DecisionResult
from tta_tasks.models import Decision, DeploymentRequest, Promotion, RunRecord, TaskRecord
from tta_tasks.requests import failed

Outcome = Literal["approved", "rejected"]


def moment(at: float) -> str:
    """``2026-11-22 14:03:20``, in this host's time zone."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def whoami() -> str:
    """``user@host``, as this process's host has it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def rejection(decision: Decision) -> DeploymentFailed:
    """How a deployment ends that was rejected."""
    return DeploymentFailed(f"Rejected by {decision.by}" + (f": {decision.reason}" if decision.reason else "."))


def expiry(promotion: Promotion) -> DeploymentFailed:
    """How a deployment ends that nobody decided on."""
    return DeploymentFailed(
        f"Not approved by {moment(promotion.expires_at or 0.0)}; it was not begun.",
        "`tta retry` does the run once more; the target's expires_s says how long approval is waited for.",
    )


def decide(ledger: Ledger, run_id: str, outcome: Outcome, *, by: str = "", reason: str = "") -> tuple[Decision, bool]:
    """Approve, or reject, the deployment of a run that is parked. The first decision counts.

    Args:
        ledger: The ledger.
        run_id: The run.
        outcome: What is decided.
        by: Who decides; by default ``user@host``.
        reason: Why.

    Returns:
        The decision that counts, and whether it is this one; an earlier one is answered when it has the same outcome.

    Raises:
        RecordMissing: No such run, or it has expired.
        UsageError: There is nothing to decide, or it was decided otherwise.
        BrokerUnavailable: It is decided, and its message is published when the broker is back.
    """
    record = ledger.run(run_id)
    task = _parked(record)
    decision = Decision(
        outcome=outcome, by=(by.strip() or whoami())[:200], at=ledger.clock.now(), reason=reason.strip()[:1000]
    )
    answer, counts = ledger.parking.decide(task, decision, GRACE_S)
    if answer is DecisionResult.STRANGER and task.promotion is not None:
        may = ", ".join(task.promotion.approvers)
        raise UsageError(
            f"{task.label!r} of run {run_id} may be approved by these Redis users only: {may}. This is"
            f" {ledger.parking.user!r}.",
            "Connect as one of them: TTA_BROKER_URL (TTA_RESULT_URL beside RabbitMQ) has the user and password.",
        )
    if counts is None:
        raise _refusal(answer, task, record)
    if counts.outcome != outcome:
        raise UsageError(
            f"{task.label!r} of run {run_id} was {counts.outcome} by {counts.by} on {moment(counts.at)}.",
            f"`tta status {run_id}` says what came of it.",
        )
    if answer is not DecisionResult.DECIDED and outcome == "rejected":
        ledger.finish(task, failed(task.request, rejection(decision)))
    ledger.wait_until_durable()
    if answer is DecisionResult.RELEASED:
        publishing.publish([task])
    return counts, answer is not DecisionResult.DECIDED


def _parked(record: RunRecord) -> TaskRecord:
    """The deployment of a run that is, or was, parked."""
    found = [task for task in record.tasks if task.promotion is not None]
    if found:
        return found[-1]
    deployments = [task for task in record.tasks if isinstance(task.request, DeploymentRequest)]
    if not deployments:
        raise UsageError(f"Run {record.plan.id} deploys nothing: its target is {record.plan.target}.")
    raise _refusal(DecisionResult.EARLY, deployments[-1], record)


def _refusal(answer: DecisionResult, task: TaskRecord, record: RunRecord) -> UsageError:
    """Why there is nothing to decide."""
    run_id, what = record.plan.id, f"{task.label!r} of run {record.plan.id}"
    if task.status.terminal:
        return UsageError(f"{what} has ended, as {task.status}.", f"`tta status {run_id}` says how.")
    match answer:
        case DecisionResult.UNNEEDED:
            return UsageError(f"{what} needs no approval; it begins by itself.", f"`tta status {run_id}` says when.")
        case DecisionResult.EXPIRED:
            return UsageError(f"{what} was to be approved before.", f"`tta retry {run_id}` does the run once more.")
        case DecisionResult.EARLY:
            doing = next((each.label for each in record.tasks if not each.status.terminal), "")
            return UsageError(
                f"{what} is not parked: the run is at {doing!r}.",
                "It can be decided on once it is parked, if its target asks for that.",
            )
        case DecisionResult.BEGUN:
            return UsageError(f"{what} has been begun.", f"`tta cancel {run_id}` stops it.")
        case _:
            return UsageError(f"{what} has ended meanwhile.", f"`tta status {run_id}` says how.")
