"""``tta serve``: keeps what this host serves running."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import click

from tta_tasks import plugins


@click.command(short_help="Keep releases that are services running.")
@click.option("--stop", is_flag=True, help="End all that is served here instead, and return.")
def serve(stop: bool) -> None:  # noqa: FBT001
    """Keep the releases running that the deployments of this host serve, from its start to its end.

    For systemd or a container on a host that deploys services: without it a deployment starts what serves its release,
    but nobody does after a restart of the host. TTA_TARGETS_FILE says where the releases are.
    """
    run = cast("Callable[[Callable[[str], None], bool], None]", plugins.load(plugins.WORKER, "serve"))
    run(lambda message: click.echo(message, err=True), stop)
