"""Following a run until its end, or until the person leaves."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from orchestrator import outputs
from orchestrator.cli import faults
from orchestrator.local import joining
from orchestrator.output_options import OutputOptions
from orchestrator.watch import RunView
from tta_tasks import stack
from tta_tasks.client import TaskClient
from tta_tasks.errors import TtaError
from tta_tasks.models import RunRecord, Status
from tta_tasks.settings import Settings, settings

#: How long a Ctrl-C, or a step of the clocks, may go unnoticed, in seconds.
POLL_S = 0.5


def follow(client: TaskClient, run_id: str, view: RunView, output_options: OutputOptions | None = None) -> int:
    """Show the run until it ends, then leave what ``output_options`` ask for; answers the exit code.

    Who leaves with Ctrl-C leaves the run as it is: a fleet, or a stack that is kept, goes on with it; a local stack of
    its own stops and can resume it.
    """
    with _interruptible(), view:
        try:
            for record in client.watch(run_id, poll_interval=POLL_S):
                view.update(record)
                _stop_without_stack(run_id)
        except KeyboardInterrupt:
            view.note(_parting(run_id))
            return faults.INTERRUPTED
    if output_options is not None:
        left = outputs.write(record, client.store, output_options)
        view.summary(left.report, left.paths)
    return code_of(record)


def code_of(record: RunRecord) -> int:
    """The exit code of a run that has ended, or is parked: nothing is wrong with it."""
    return faults.OK if record.status in {Status.COMPLETED, Status.PARKED} else faults.FAILED


def _stop_without_stack(run_id: str) -> None:
    """A broker that is away may come back; a local stack that gave up tells why, and does not."""
    if not Settings().broker and (why := joining.failure(settings().state_dir)):
        raise TtaError(why, f"`tta resume {run_id}` continues the run.")


def _parting(run_id: str) -> str:
    local = stack.find(settings().state_dir)
    if Settings().broker or (local is not None and local.kept):
        return f"Left; the run goes on. `tta watch {run_id}` looks on, `tta cancel {run_id}` stops it."
    return f"Interrupted. `tta resume {run_id}` continues the run."


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM means the same as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
