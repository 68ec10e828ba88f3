"""``tta top``: queues and workers, live."""

from __future__ import annotations

import contextlib
import time

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.watch.fleet import picture
from tta_tasks.connection import without_password
from tta_tasks.errors import SettingsError, TransientError
from tta_tasks.fleet import Fleet
from tta_tasks.ledger import Ledger
from tta_tasks.settings import settings


@click.command()
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--json", "as_json", is_flag=True, help="Look once; JSON instead of a table.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between looks."
)
def top(once: bool, as_json: bool, interval: float) -> None:  # noqa: FBT001
    """Show queues and workers, live. Ctrl-C leaves."""
    chosen = settings()
    if not chosen.broker:
        raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
    fleet, where = Fleet(Ledger.connect(chosen), chosen), without_password(chosen.broker)
    if as_json:
        click.echo(fleet.look().model_dump_json())
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(picture(fleet.look(), where))
        return
    with (
        Live(picture(fleet.look(), where), console=console, screen=True) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            time.sleep(interval)
            try:
                live.update(picture(fleet.look(), where))
            except TransientError as error:  # it may come back
                live.update(Text(str(error), style="red"))
