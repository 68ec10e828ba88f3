"""``tta engines``: engines that have an installation of their own on a worker host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import click

from tta_tasks import plugins
from tta_tasks.models import Check


@click.group(short_help="List and install engines.")
def engines() -> None:
    """List and install engines that live in an environment of their own, on this worker host."""


@engines.command(name="list")
def list_() -> None:
    """Say which there are, and whether they are installed."""
    for check in cast("Callable[[], tuple[Check, ...]]", plugins.load(plugins.WORKER, "engines"))():
        mark, colour = ("ok", "green") if check.ok else ("--", "yellow")
        click.echo(f"{click.style(mark, fg=colour, bold=True)}  {check.name}  {check.detail}")


@engines.command()
@click.argument("name")
def install(name: str) -> None:
    """Install NAME in this host's cache folder; nothing is done where it is there already."""
    installed = cast("Callable[[str, Callable[[str], None]], Path]", plugins.load(plugins.WORKER, "install"))
    python = installed(name, lambda message: click.echo(f"{message} ...", err=True))
    click.echo(f"{name} is installed: {python.parents[2]}")
