"""``tta run``: one component, from its spec to its target."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from orchestrator import outputs, workflow
from orchestrator.cli import faults
from orchestrator.local import joining
from orchestrator.watch import View, choose_view
from tta_tasks.client import TaskClient
from tta_tasks.errors import StoreUnavailable, TtaError, UsageError
from tta_tasks.models import Mode, RunRecord, Status, Target
from tta_tasks.queues import Priority
from tta_tasks.settings import Settings, settings

#: How long a cancelled run is given to end its tasks.
CANCEL_WITHIN_S = 20.0


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--repo", type=click.Path(path_type=Path), default=Path(), help="The repository.  [default: this folder]")
@click.option("--component", help="Its component: a distribution, package, module or folder.")
@click.option("--root", help="The project's folder inside the repository, for monorepos.")
@click.option("--target", type=click.Choice([each.value for each in Target]), help="How far to go.  [default: the spec's, else staging]")
@click.option("--async", "parallel", is_flag=True, help="Generate tests beside the refactoring, not one after another.")
@click.option("--engine", default="auto", show_default=True, help="Engine that writes the tests.")
@click.option("--enable-openhands", is_flag=True, help="Insist on OpenHands agents: --engine openhands.")
@click.option("--coverage", type=click.FloatRange(0, 100), help="Coverage to reach, in %.  [default: the target's]")
@click.option("--budget", type=click.FloatRange(1, 3600), default=15.0, show_default=True, help="Seconds a module.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same tests.")
@click.option("--priority", type=click.Choice([each.value for each in Priority]), default="normal", show_default=True)
@click.option("-j", "--slots", type=click.IntRange(1, 256), help="Tasks at once on the local stack.")
@click.option("--branch", help="Commit tests and refactoring to a new branch of this name.")
@click.option("--apply", "apply_", is_flag=True, help="Apply tests and refactoring to the working tree.")
@click.option("--output", type=click.Path(path_type=Path), help="Reports and patches.  [default: .tta/runs/ID]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def run(  # noqa: PLR0917 - one parameter an option
    spec: Path,
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
    slots: int | None,
    branch: str | None,
    apply_: bool,  # noqa: FBT001
    output: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Bring the component that SPEC describes to its target.

    The working tree is not touched unless --apply says so: results are patches beside the report.
    """
    if enable_openhands and engine not in {"auto", "openhands"}:
        raise UsageError(f"--enable-openhands and --engine {engine} contradict each other.", "Give one of them.")
    options = workflow.RunOptions(
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
    prepared = workflow.prepare(spec, options, settings())
    wanted = outputs.Wanted(repository=repo, folder=output, branch=branch, apply=apply_)
    outputs.check(wanted)
    with workflow.connected(slots) as client:
        run_id = workflow.submit(prepared, client)
        record, interrupted = _followed(client, run_id, choose_view(as_json=as_json), wanted)
    if interrupted:
        sys.exit(faults.INTERRUPTED)
    sys.exit(faults.OK if record.status is Status.COMPLETED else faults.FAILED)


def _followed(client: TaskClient, run_id: str, view: View, wanted: outputs.Wanted) -> tuple[RunRecord, bool]:
    """Show the run until it ends; a first Ctrl-C cancels it, a second one leaves at once."""
    with _interruptible() as interrupted, view:
        try:
            until = None
            for record in client.watch(run_id, poll_interval=0.5):
                view.update(record)
                if interrupted() and until is None:
                    client.cancel_run(run_id)
                    view.note("Stopping; Ctrl-C again leaves at once.")
                    until = time.monotonic() + CANCEL_WITHIN_S
                if until is not None and time.monotonic() > until:
                    break
        except StoreUnavailable as error:
            # The local stack tells why it is gone.
            if not Settings().broker and (why := joining.failure(settings().state_dir)):
                raise TtaError(why) from error
            raise
    files = outputs.write(record, client.store, wanted)
    view.summary(files.report, files.paths)
    return record, interrupted()


@contextlib.contextmanager
def _interruptible() -> Iterator[_Interrupted]:
    state = _Interrupted()
    before = {number: signal.signal(number, state.notice) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Interrupted:
    """Whether somebody asked us to end."""

    def __init__(self) -> None:
        self._times = 0

    def notice(self, _number: int, _frame: FrameType | None) -> None:
        """Note one more wish; the second is obeyed at once."""
        self._times += 1
        if self._times > 1:
            raise KeyboardInterrupt

    def __call__(self) -> bool:
        return self._times > 0
