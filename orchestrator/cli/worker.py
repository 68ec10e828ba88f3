"""``tta worker`` and ``tta health``: one worker of a fleet, and whether it does its work."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from pathlib import Path

import click

from tta_tasks import canary, folders, publishing
from tta_tasks.connection import connect, refusal, translated
from tta_tasks.errors import BrokerUnavailable, SettingsError, TransientError
from tta_tasks.fleet import Fleet, FleetState
from tta_tasks.ledger import Ledger
from tta_tasks.queues import BY_URGENCY, NAMES
from tta_tasks.settings import Settings, settings


@click.command()
@click.argument("queues", nargs=-1, required=True, type=click.Choice([*NAMES, "all"]))
@click.option("-j", "--slots", envvar="TTA_SLOTS", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option(
    "--events", envvar="TTA_EVENTS", is_flag=True, help="Tell events from the start, not once Flower asks for them."
)
@click.option(
    "--log-level",
    envvar="TTA_LOG_LEVEL",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    default="INFO",
    show_default=True,
)
def worker(queues: tuple[str, ...], slots: int, events: bool, log_level: str) -> None:  # noqa: FBT001
    """Start a worker on QUEUES that does SLOTS tasks at once.

    On SIGTERM it takes nothing more and ends; what it is doing after 10 s goes back to its queue, for another worker.
    """
    _let_in(_connected())
    chosen = [name for name in BY_URGENCY if "all" in queues or name in queues]
    # A name of its own, also where replicas share a host's name.
    node = f"{'all' if 'all' in queues else '-'.join(queues)}-{uuid.uuid4().hex[:8]}@{socket.gethostname()}"
    with folders.opened(_node_file(), "wb") as file:
        file.write(node.encode())
    argv = [
        *(sys.executable, "-P", "-m", "workers", "--hostname", node, "--queues", ",".join(chosen)),
        *("--concurrency", str(slots), "--loglevel", log_level, *(["--task-events"] if events else [])),
    ]
    # Celery's warm shutdown would wait for the end of every task; its soft one does not.
    os.execve(sys.executable, argv, {**os.environ, "REMAP_SIGTERM": "SIGQUIT"})  # noqa: S606 - becomes it


@click.command()
@click.argument("queue", type=click.Choice(NAMES))
@click.option(
    "--here", is_flag=True, help="Also that the worker that was started on this host, or in this container, is on it."
)
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds.")
def health(queue: str, here: bool, timeout: float) -> None:  # noqa: FBT001
    """Say whether tasks of QUEUE are done, by having one done.

    A queue whose workers are all busy, and show it, is healthy, too. Exit code 3 when it is not.
    """
    chosen = _connected()
    fleet = Fleet(Ledger.connect(chosen), chosen)
    if here and (missing := _missing(queue, fleet.look())):
        raise BrokerUnavailable(
            f"Worker {missing} is not on {queue}.", "See its log: it starts, or has lost the broker."
        )
    if canary.answered(queue, timeout):
        click.echo(f"{queue}: tasks are done")
    elif canary.busy(queue, fleet.look()):
        click.echo(f"{queue}: all slots are busy")
    else:
        raise BrokerUnavailable(
            f"Nobody took a task from {queue} within {timeout:g} s.", f"Start a worker: `tta worker {queue}`."
        )


def _connected() -> Settings:
    chosen = settings()
    if not chosen.broker:
        raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
    return chosen


def _let_in(chosen: Settings) -> None:
    """See that broker and ledger let this process in, where they answer; Celery would ask them for ever.

    Raises:
        TransientError: One of them does not; its message says why.
    """
    for url, ask in (
        (chosen.broker, lambda: _may_take(chosen)),
        (chosen.redis, lambda: Ledger.connect(chosen).runs(1)),
    ):
        try:
            ask()
        except TransientError as error:
            if error.__cause__ is not None and refusal(error.__cause__, url) is not None:
                raise
            click.echo(f"{error.message} It is waited for.", err=True)


def _may_take(chosen: Settings) -> None:
    """See that the broker is there, and that this user may take messages from it, as a producer's may not."""
    publishing.reach()
    if chosen.transport == "redis":
        with translated(chosen.broker):
            connect(chosen, chosen.broker).rpop(f"{chosen.key_prefix}nothing")


def _missing(queue: str, state: FleetState) -> str:
    """The name of this host's worker, where it is not heard of on ``queue``."""
    try:
        with folders.opened(_node_file(), "rb") as file:
            name = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(none was started here)"
    on_queue = next(found for found in state.queues if found.name == queue).workers
    return "" if any(worker.name == name for worker in on_queue) else name


def _node_file() -> Path:
    return settings().state / "node"
