"""``tta releases`` and ``tta rollback``: what environments have seen, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from orchestrator.cli import faults
from orchestrator.connect import connect
from tta_tasks.client import TaskClient
from tta_tasks.environments import Environments, rollback_candidates
from tta_tasks.errors import UsageError
from tta_tasks.models import DeploymentRequest, DeploymentResult, EnvironmentRecord, Priority, ReleaseEntry
from tta_tasks.settings import settings

#: Characters of a digest that a person sees.
SHORT = 12


@click.command(short_help="Say what environments have seen.")
@click.argument("environment", required=False)
@click.option("--component", help="Of this component only.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many, of each.")
@click.option("--json", "as_json", is_flag=True, help="One environment of a component a line.")
def releases(environment: str | None, component: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """Say which releases ENVIRONMENT has seen, or all do: which is in use, when it came, and by which run."""
    with connect():
        known = _known(environment, component)
    if as_json:
        for record in known:
            click.echo(record.model_dump_json(exclude={"component": {"modules"}}))
        return
    if not known:
        click.echo("Nothing was deployed yet, as far as is known here.", err=True)
    for record in known:
        current = record.current[:SHORT] if record.current else "none"
        click.echo(f"{record.environment} {record.component.name}: {current} is in use")
        table = Table("", "release", "when", "what", "before", "by", box=None, pad_edge=False)
        for entry in reversed(_telling(record.entries)[-limit:]):
            table.add_row("*" if entry.release == record.current else "", *_row(entry))
        Console().print(table)


@click.command(short_help="Go back to an earlier release.")
@click.argument("environment")
@click.option("--component", help="Which; needed where there are several.")
@click.option("--to", help="The release, or the beginning of its digest.  [default: the good one before]")
def rollback(environment: str, component: str | None, to: str | None) -> None:
    """Take ENVIRONMENT back to the good release before the one in use, and wait for it.

    It is checked as a new one would be. It goes before all deployments that wait, and after the one that goes on.
    """
    with connect() as client:
        record = _one(environment, component)
        release = _chosen(record, to)
        click.echo(f"{environment} {record.component.name}: back to {release[:SHORT]}", err=True)
        request = DeploymentRequest(
            snapshot=record.snapshot, component=record.component, environment=environment, back_to=release
        )
        result = _followed(client, client.submit(request, priority=Priority.HIGH), environment)
    for check in result.checks:
        click.echo(f"  {check.name}: {'ok' if check.ok else check.detail}")
    if result.error is not None:
        faults.say(result.error.message, result.error.hint)
        sys.exit(faults.FAILED)
    click.echo(f"{environment}: {release[:SHORT]} is in use ({result.action}), at {result.location}")


def _known(environment: str | None, component: str | None) -> list[EnvironmentRecord]:
    return [
        record
        for record in Environments(settings()).known()
        if environment in {None, record.environment} and component in {None, record.component.name}
    ]


def _one(environment: str, component: str | None) -> EnvironmentRecord:
    """The one record that is meant.

    Raises:
        UsageError: There is none, or several.
    """
    found = _known(environment, component)
    if not found:
        there = ", ".join(f"{record.environment} {record.component.name}" for record in _known(None, None)) or "none"
        raise UsageError(
            f"Nothing is known of {environment!r}{f' and {component!r}' if component else ''}; known are: {there}.",
            "`tta releases` lists them; what was never deployed cannot be taken back.",
        )
    if len(found) > 1:
        names = ", ".join(record.component.name for record in found)
        raise UsageError(f"{environment} has several components: {names}.", "Say which with --component.")
    return found[0]


def _chosen(record: EnvironmentRecord, to: str | None) -> str:
    """The release to go back to.

    Raises:
        UsageError: There is none.
    """
    earlier = rollback_candidates(record)
    found = [release for release in earlier if release.startswith(to or "")]
    if not found or (to and len(found) > 1):
        there = ", ".join(release[:SHORT] for release in earlier) or "none"
        raise UsageError(
            f"{record.environment} has no {'single ' if found else ''}earlier good release {to or ''}".rstrip() + ".",
            f"Those it has: {there}. `tta releases {record.environment}` tells more.",
        )
    return found[0]


def _followed(client: TaskClient, task_id: str, environment: str) -> DeploymentResult:
    try:
        for event in client.events(task_id):
            if event.message:
                click.echo(f"  {event.message}", err=True)
    except KeyboardInterrupt:
        click.echo(f"Left; it goes on. `tta releases {environment}` tells what came of it.", err=True)
        sys.exit(faults.INTERRUPTED)
    result = client.result(task_id)
    return result if isinstance(result, DeploymentResult) else DeploymentResult(**result.model_dump())


def _telling(entries: Sequence[ReleaseEntry]) -> list[ReleaseEntry]:
    """All but what was about to be tried, unless that is all that is known."""
    return [entry for entry in entries[:-1] if entry.what != "switching"] + list(entries[-1:])


def _row(entry: ReleaseEntry) -> tuple[str, ...]:
    when = datetime.fromtimestamp(entry.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    before = entry.previous[:SHORT] if entry.previous else ""
    return entry.release[:SHORT], when, entry.what.replace("_", " "), before, entry.run_id or entry.task_id
