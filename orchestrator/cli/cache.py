"""``tta cache``: what is kept so that it need not be done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from tta_tasks import folders
from tta_tasks.cache import ResultCache
from tta_tasks.errors import SettingsError
from tta_tasks.fleet import Fleet
from tta_tasks.ledger import Ledger
from tta_tasks.settings import Settings, settings

#: What of a host's cache folder is shown, by its folders.
FOLDERS = ("snapshots", "environments", "wheels", "uv", "engines", "conversations")


@click.group(short_help="Show and clear what is kept by content.")
def cache() -> None:
    """Show and clear what is kept so that it need not be done again."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
def show(as_json: bool) -> None:  # noqa: FBT001
    """Say how much is kept, how often it helped, and what of it had to go."""
    chosen = _connected()
    kept = ResultCache(chosen).usage()
    counted = Fleet(Ledger.connect(chosen), chosen).look().counters
    hits, ended = _sum(counted, "cached"), _sum(counted, "ended")
    kept_here = folders.found(chosen.cache_dir, folders.CACHE)
    host = {name: _bytes(kept_here / name) for name in FOLDERS if (kept_here / name).is_dir()} if kept_here else {}
    if as_json:
        facts = {"results": kept.results, "result_bytes": kept.size, "max_results": chosen.max_cached_results}
        facts |= {"hits": int(hits), "tasks": int(ended), "evicted": int(counted.get("evicted:results", 0))}
        click.echo(json.dumps(facts | {"host": host}))
        return
    click.echo(f"results      {kept.results:,} of {chosen.max_cached_results:,}, {_human(kept.size)}")
    share = f" ({hits / ended:.0%})" if ended else ""
    click.echo(f"  answered   {hits:,.0f} of {ended:,.0f} tasks that ended{share}")
    results, artifacts = (counted.get(f"evicted:{kind}", 0) for kind in ("results", "artifacts"))
    click.echo(f"  made room  {results:,.0f} results and {artifacts:,.0f} artifacts were removed")
    click.echo(f"this host    {chosen.cache_dir.expanduser().absolute()}")
    for name, size in host.items():
        click.echo(f"  {name:<13}{_human(size)}")


@cache.command()
@click.confirmation_option("--yes", "-y", prompt="Forget all results? The next runs do the work again")
def clear() -> None:
    """Forget all results that are kept by content, for everybody on this broker; runs and releases stay."""
    click.echo(f"{ResultCache(_connected()).clear():,} results are forgotten.")


def _connected() -> Settings:
    chosen = settings()
    if not chosen.broker:
        raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
    return chosen


def _sum(counted: dict[str, float], name: str) -> float:
    return sum(amount for field, amount in counted.items() if field.startswith(f"{name}:"))


def _bytes(folder: Path) -> int:
    return sum(_sizes(os.fspath(folder)))


def _sizes(folder: str) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path)
            else:
                yield entry.stat(follow_symlinks=False).st_size


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - of the unit
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
