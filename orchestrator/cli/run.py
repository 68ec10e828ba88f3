"""``tta run`` and ``tta submit``: one component, from its spec to its target."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator.connect import connect
from orchestrator.output_options import OutputOptions, check
from orchestrator.prepare import RunOptions, prepare
from tta_tasks.errors import UsageError
from tta_tasks.models import Mode, Priority, Target
from tta_tasks.settings import settings


def _planning(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is to be done."""
    for option in reversed(
        (
            click.argument("spec", type=click.Path(path_type=Path)),
            click.option("--repo", type=click.Path(path_type=Path), default=Path(), help="Repository.  [default: .]"),
            click.option("--component", help="Its component: a distribution, package, module or folder."),
            click.option("--root", help="The project's folder inside the repository, for monorepos."),
            click.option(
                "--target",
                type=click.Choice([each.value for each in Target]),
                help="How far to go.  [default: the spec's, else staging]",
            ),
            click.option("--async", "parallel", is_flag=True, help="Generate tests beside the refactoring."),
            click.option("--engine", default="auto", show_default=True, help="Engine that writes the tests."),
            click.option("--enable-openhands", is_flag=True, help="Insist on OpenHands agents."),
            click.option(
                "--coverage", type=click.FloatRange(0, 100), help="Coverage to reach, in %.  [default: the target's]"
            ),
            click.option(
                "--budget",
                type=click.FloatRange(1, 3600),
                default=15.0,
                show_default=True,
                help="Seconds an engine may search, for each module.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Where the search for tests begins."),
            click.option(
                "--priority",
                type=click.Choice([each.value for each in Priority]),
                default="normal",
                show_default=True,
                help="How urgent it is.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@_planning
@click.option("-j", "--slots", type=click.IntRange(1, 256), help="Tasks at once on the local stack.")
@click.option("--branch", help="Commit tests and refactoring to a new branch of this name.")
@click.option("--apply", "apply_", is_flag=True, help="Apply tests and refactoring to the working tree.")
@click.option("--output", type=click.Path(path_type=Path), help="Reports and patches.  [default: .tta/runs/ID]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def run(  # noqa: PLR0917 - one parameter an option
    spec: Path,
    repo: Path,
    slots: int | None,
    branch: str | None,
    apply_: bool,  # noqa: FBT001
    output: Path | None,
    as_json: bool,  # noqa: FBT001
    **planning: Any,  # noqa: ANN401 - of _planning
) -> None:
    """Bring the component that SPEC describes to its target.

    The working tree is not touched unless --apply says so: results are patches beside the report.
    """
    prepared = prepare(spec, _options(repo, **planning), settings())
    output_options = OutputOptions(repository=repo, folder=output, branch=branch, apply=apply_)
    check(output_options)
    with connect(slots) as client:
        # Imported while the stack's worker starts.
        from orchestrator import workflow  # noqa: PLC0415
        from orchestrator.cli.following import follow  # noqa: PLC0415
        from orchestrator.watch import choose_view  # noqa: PLC0415

        run_id = workflow.submit(prepared, client)
        code = follow(client, run_id, choose_view(client.ledger.clock.now, as_json=as_json), output_options)
    sys.exit(code)


@click.command(short_help="Hand a run in and print its id.")
@_planning
def submit(spec: Path, repo: Path, **planning: Any) -> None:  # noqa: ANN401 - of _planning
    """Hand a run in and print its id; a fleet, or the stack of `tta up`, does it."""
    from orchestrator import workflow  # noqa: PLC0415 - as above
    from tta_tasks.client import TaskClient  # noqa: PLC0415

    prepared = prepare(spec, _options(repo, **planning), settings())
    with TaskClient.connect() as client:
        click.echo(workflow.submit(prepared, client))


def _options(  # noqa: PLR0917 - one parameter an option
    repo: Path,
    component: str | None,
    root: str | None,
    target: str | None,
    parallel: bool,  # noqa: FBT001
    engine: str,
    enable_openhands: bool,  # noqa: FBT001
    coverage: float | None,
    budget: float,
    seed: int,
    priority: str,
) -> RunOptions:
    if enable_openhands and engine not in {"auto", "openhands"}:
        raise UsageError(f"--enable-openhands and --engine {engine} contradict each other.", "Give one of them.")
    return RunOptions(
        repository=repo,
        component=component,
        root=root,
        target=Target(target) if target else None,
        mode=Mode.ASYNC if parallel else Mode.SYNC,
        engine="openhands" if enable_openhands else engine,
        coverage=coverage,
        budget_s=budget,
        seed=seed,
        priority=Priority(priority),
    )
