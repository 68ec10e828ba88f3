"""``tta adopt``: take over a folder that has no record of ours."""

from __future__ import annotations

from pathlib import Path

import click

from tta_tasks import folders
from tta_tasks.settings import Settings


@click.command(short_help="Take over a folder that is yours and has no record.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def adopt(folder: Path, yes: bool) -> None:  # noqa: FBT001
    """Take over FOLDER, a state or cache folder that is yours and has no record on this host.

    One that an earlier version made, for example, or a copy. Look at it first: its targets.toml says where releases go
    and what deploys them, its valkey folder holds runs and results. Links, others' folders and files that git tracks
    are refused all the same.
    """
    chosen = Settings()
    named = {folders.CACHE: chosen.cache_dir, folders.STATE: chosen.state_dir}
    wanted = folder.expanduser().absolute()
    setting = next((name for name, each in named.items() if each.expanduser().absolute() == wanted), folders.STATE)
    path = folders.adoptable(folder, setting)
    held = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
    click.echo(f"{path} holds {held}.")
    if not yes:
        click.confirm("Did you make it, and nobody else?", abort=True)
    folders.adopt(path, setting)
    click.echo(f"{path} is used from now on.")
