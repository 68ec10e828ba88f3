"""Commands about runs that were handed in earlier, from here or elsewhere."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from orchestrator import outputs, workflow
from orchestrator.cli import faults
from orchestrator.cli.following import code_of, follow
from orchestrator.connect import connect
from orchestrator.output_options import OutputOptions, check
from orchestrator.report.wording import decided, how_to_decide, parked
from orchestrator.sanitize import sanitize
from orchestrator.watch import choose_view
from tta_tasks.client import TaskClient
from tta_tasks.errors import RecordMissing, RecordUnreadable, UsageError
from tta_tasks.models import RunRecord, Status, TaskRecord

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_REPO = click.option("--repo", type=click.Path(path_type=Path), default=Path(), help="Repository.  [default: .]")


@click.command("list")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@_JSON
def list_(limit: int, as_json: bool) -> None:  # noqa: FBT001
    """List the latest runs."""
    with connect() as client:
        known = [(run_id, _known(client, run_id)) for run_id in client.ledger.runs(limit)]
    if as_json:
        for run_id, record in known:
            if isinstance(record, RunRecord):
                click.echo(_as_json(record))
            elif record is not None:
                click.echo(json.dumps({"run_id": run_id, "unreadable": record.message}))
        return
    if not any(record for _, record in known):
        click.echo("No runs yet: `tta run SPEC` begins one.", err=True)
        return
    table = Table("run", "component", "target", "mode", "status", "begun", "tasks", box=None, pad_edge=False)
    for run_id, record in known:
        if isinstance(record, RecordUnreadable):
            table.add_row(run_id, "", "", "", "unreadable", "", "")
            faults.say(record.message, record.hint)
        if not isinstance(record, RunRecord):
            continue
        ended = sum(task.status.terminal for task in record.tasks)
        begun = datetime.fromtimestamp(record.plan.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
        plan = record.plan
        table.add_row(
            plan.id, plan.component.name, plan.target, plan.mode, record.status, begun, f"{ended}/{len(record.tasks)}"
        )
    Console().print(table)


@click.command()
@click.argument("run")
@_JSON
def status(run: str, as_json: bool) -> None:  # noqa: FBT001
    """Say where RUN stands, without waiting."""
    with connect() as client:
        record = client.ledger.run(run)
    if as_json:
        click.echo(_as_json(record))
        return
    click.echo(f"{run}: {record.status}")
    table = Table(Column("task", no_wrap=True), "status", "attempts", "worker", "doing", box=None, pad_edge=False)
    for task in record.tasks:
        table.add_row(task.label, task.status, str(task.attempts or ""), task.worker, _doing(task))
    Console().print(table)
    for task in record.tasks:
        if task.decision is not None:
            click.echo(sanitize(f"{task.label}: {decided(task.decision)}"))
        if how := how_to_decide(task):
            click.echo(f"{task.label}: {how}")


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch(run: str, as_json: bool) -> None:  # noqa: FBT001
    """Look on while RUN is done, from its beginning or joined late. Ctrl-C leaves; the run goes on."""
    with connect() as client:
        code = follow(client, run, choose_view(client.ledger.clock.now, as_json=as_json))
    sys.exit(code)


@click.command()
@click.argument("run")
@_REPO
@click.option("--branch", help="Commit tests and refactoring to a new branch of this name.")
@click.option("--apply", "apply_", is_flag=True, help="Apply tests and refactoring to the working tree.")
@click.option("--output", type=click.Path(path_type=Path), help="Reports and patches.  [default: .tta/runs/ID]")
def results(run: str, repo: Path, branch: str | None, apply_: bool, output: Path | None) -> None:  # noqa: FBT001
    """Fetch report and patches of RUN, which has ended or is parked."""
    output_options = OutputOptions(repository=repo, folder=output, branch=branch, apply=apply_)
    check(output_options)
    with connect() as client:
        record = client.ledger.run(run)
        if not record.status.terminal and record.status is not Status.PARKED:
            raise UsageError(f"Run {run} is {record.status}.", f"`tta watch {run}` looks on until its end.")
        left = outputs.write(record, client.store, output_options)
    choose_view().summary(left.report, left.paths)
    sys.exit(code_of(record))


@click.command(short_help="Stop RUN.")
@click.argument("run")
def cancel(run: str) -> None:
    """Stop RUN: what waits ends at once, what runs at its next sign of life."""
    with connect() as client:
        try:
            client.cancel_run(run)
        except RecordUnreadable:
            click.echo(f"{run}: asked to stop; it ends where its records can be read.")
            raise
        record = client.ledger.run(run)
    left = [task.label for task in record.tasks if task.status is Status.RUNNING]
    click.echo(f"{run}: {record.status}" + (f"; still ending: {', '.join(left)}" if left else ""))


@click.command(short_help="Continue RUN, which was interrupted.")
@click.argument("run")
@_REPO
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def resume(run: str, repo: Path, as_json: bool) -> None:  # noqa: FBT001
    """Continue RUN, which was interrupted; what was finished is not done again."""
    with connect() as client:
        workflow.resume(client.ledger.run(run), client)
        code = follow(
            client, run, choose_view(client.ledger.clock.now, as_json=as_json), OutputOptions(repository=repo)
        )
    sys.exit(code)


@click.command(short_help="Do RUN, which has ended, once more.")
@click.argument("run")
@_REPO
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def retry(run: str, repo: Path, as_json: bool) -> None:  # noqa: FBT001
    """Do RUN, which has ended, once more, as a new run; what was done is answered from the result cache."""
    with connect() as client:
        record = client.ledger.run(run)
        if not record.status.terminal:
            raise UsageError(f"Run {run} is {record.status}.", f"`tta resume {run}` continues it.")
        plan, tasks = workflow.again(record)
        run_id = workflow.hand_in(plan, tasks, client)
        code = follow(
            client, run_id, choose_view(client.ledger.clock.now, as_json=as_json), OutputOptions(repository=repo)
        )
    sys.exit(code)


def _doing(task: TaskRecord) -> str:
    if task.result is not None and task.result.error is not None:
        return task.result.error.message
    return parked(task) or task.progress


def _known(client: TaskClient, run_id: str) -> RunRecord | RecordUnreadable | None:
    try:
        return client.ledger.run(run_id)
    except RecordMissing:
        return None  # it expires with its last change, the list with the newest run
    except RecordUnreadable as error:
        return error  # it must not hide the others


def _as_json(record: RunRecord) -> str:
    return record.model_dump_json(exclude={"tasks": {"__all__": {"request"}}})
