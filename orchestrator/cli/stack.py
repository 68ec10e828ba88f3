"""``tta up`` and ``tta down``: a local stack that stays for further producers."""

from __future__ import annotations

import os
import signal
import time

import click

from orchestrator.local.joining import joined
from tta_tasks import stack
from tta_tasks.errors import TtaError, UsageError
from tta_tasks.settings import Settings

ENDED_WITHIN_S = 20.0


@click.command()
@click.option("-j", "--slots", type=click.IntRange(1, 256), help="Tasks done at once.  [default: one a processor]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="A port on 127.0.0.1 for the broker, 0 for a free one.  [default: none, a Unix socket]",
)
def up(slots: int | None, port: int | None) -> None:
    """Start the local stack and keep it, until `tta down`.

    Producers started in this folder find it by themselves; others need the TTA_BROKER_URL that is printed.
    """
    state = Settings().state_dir
    before = stack.find(state)
    with joined(state, slots=slots, port=port, keep=True) as running:
        if before is not None and not before.kept:
            raise UsageError("A run's own stack is up here and ends with it.", "Try again when that run has ended.")
        click.echo(f"The local stack {'was up already' if before else 'is up'}: {running.slots} slots.", err=True)
        click.echo(f"export TTA_BROKER_URL={running.broker_url}")


@click.command(short_help="Stop the local stack of this folder.")
def down() -> None:
    """Stop the local stack of this folder; accepted work waits for the next one."""
    state = Settings().state_dir
    running = stack.find(state)
    if running is None:
        click.echo(f"No local stack runs in {state}.", err=True)
        return
    os.kill(running.pid, signal.SIGTERM)
    until = time.monotonic() + ENDED_WITHIN_S
    while stack.find(state) is not None:
        if time.monotonic() > until:
            raise TtaError(f"The supervisor (process {running.pid}) does not end.", f"See {state / 'logs'}.")
        time.sleep(0.05)
    click.echo("The local stack is down.", err=True)
