"""``tta approve`` and ``tta reject``: what a person decides of a run whose deployment is parked."""

from __future__ import annotations

import click

from orchestrator.connect import connect
from orchestrator.report.wording import parked, said
from orchestrator.sanitize import sanitize
from tta_tasks import stack
from tta_tasks.models import Decision, RunRecord
from tta_tasks.settings import Settings, settings

_BY = click.option("--by", default="", help="Who decides.  [default: user@host]")
_REASON = click.option("--reason", default="", help="Why, for the record.")


@click.command(short_help="Let RUN, which is parked, go on to production.")
@click.argument("run")
@_BY
@_REASON
def approve(run: str, by: str, reason: str) -> None:
    """Let RUN, which is parked, go on to production: at once, or when the environment before has soaked."""
    with connect() as client:
        decision, ours = client.approve(run, by=by, reason=reason)
        click.echo(_told(run, decision, ours))
        record = client.ledger.run(run)
    if not record.status.terminal:
        click.echo(_next(record), err=True)


@click.command(short_help="End RUN, which is parked, before production.")
@click.argument("run")
@_BY
@_REASON
def reject(run: str, by: str, reason: str) -> None:
    """End RUN, which is parked, before production: as failed, with your reason."""
    with connect() as client:
        decision, ours = client.reject(run, by=by, reason=reason)
    click.echo(_told(run, decision, ours))


def _told(run: str, decision: Decision, ours: bool) -> str:  # noqa: FBT001
    return sanitize(f"{run}: {'' if ours else 'already '}{decision.outcome} {said(decision)}")


def _next(record: RunRecord) -> str:
    run = record.plan.id
    if waits := "; ".join(words for task in record.tasks if (words := parked(task))):
        return f"It goes on by itself: {sanitize(waits)}."
    local = stack.find(settings().state_dir)
    if Settings().broker or (local is not None and local.kept):
        return f"`tta watch {run}` looks on."
    return f"`tta resume {run}` carries it on, unless a command that waits for it does."
