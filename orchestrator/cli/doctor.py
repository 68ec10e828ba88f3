"""``tta doctor``: what is there, and what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import cast

import click

from orchestrator.cli import faults
from orchestrator.local.broker import find_server
from tta_tasks import folders, plugins, publishing, queues, stack
from tta_tasks.connection import without_password
from tta_tasks.errors import TtaError
from tta_tasks.fleet import Fleet
from tta_tasks.ledger import Ledger
from tta_tasks.models import Check
from tta_tasks.settings import Settings, settings


@click.command(short_help="Say what is there and what is missing.")
def doctor() -> None:
    """Say what is there and what is missing: broker, workers, sandbox, engines.

    Exit code 1 when something that a run needs is missing.
    """
    checks = [
        *_settings(),
        *_broker(),
        *cast("Callable[[], tuple[Check, ...]]", plugins.load(plugins.WORKER, "diagnose"))(),
    ]
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = ("ok", "green") if check.ok else ("!!", "yellow")
        click.echo(f"{click.style(mark, fg=colour, bold=True)}  {check.name:<{width}}  {check.detail}")
    needed = {"settings", "broker", "ledger", "git"}
    sys.exit(faults.FAILED if any(not check.ok and check.name in needed for check in checks) else faults.OK)


def _settings() -> Iterator[Check]:
    chosen = settings()
    try:
        folders.found(chosen.cache_dir, folders.CACHE)
    except TtaError as error:
        yield Check(name="settings", ok=False, detail=str(error))
        return
    state, cache = (folder.expanduser().absolute() for folder in (chosen.state_dir, chosen.cache_dir))
    yield Check(name="settings", ok=True, detail=f"state in {state}, caches in {cache}")


def _broker() -> Iterator[Check]:
    configured = Settings().broker
    running = None if configured else stack.find(settings().state_dir)
    if not configured and running is None:
        server = find_server()
        detail = f"embedded: {server}" if server else "none: install valkey-server or set TTA_BROKER_URL"
        yield Check(name="broker", ok=server is not None, detail=detail)
        return
    chosen = settings()
    broker = _answers("broker", chosen.broker, publishing.reach, " (local stack)" if running else "")
    ledger = _answers("ledger", chosen.redis, lambda: Ledger.connect(chosen).runs(1))
    yield broker
    yield ledger
    if ledger.ok and Ledger.connect(chosen).keeps() is False:
        detail = "the ledger's server keeps no log: what was accepted is lost when it restarts; set `appendonly yes`"
        yield Check(name="disk", ok=False, detail=detail)
    if ledger.ok and (warning := Ledger.connect(chosen).clock.warning()):
        yield Check(name="clock", ok=False, detail=warning)
    if broker.ok and ledger.ok:
        yield _workers(chosen)


def _answers(name: str, url: str, ask: Callable[[], object], more: str = "") -> Check:
    try:
        ask()
    except TtaError as error:
        return Check(name=name, ok=False, detail=str(error))
    return Check(name=name, ok=True, detail=f"{without_password(url)} answers{more}")


def _workers(chosen: Settings) -> Check:
    """Whom the ledger has heard of: a producer may not ask the workers themselves."""
    try:
        found = Fleet(Ledger.connect(chosen), chosen).look().queues
    except TtaError as error:
        return Check(name="workers", ok=False, detail=str(error))
    names = {worker.name for queue in found for worker in queue.workers}
    served = sorted(queue.name for queue in found if queue.workers)
    idle = [name for name in queues.NAMES if name not in served]
    detail = f"{len(names)} on {', '.join(served) or 'no queue'}"
    return Check(name="workers", ok=not idle, detail=detail + (f"; nobody works on {', '.join(idle)}" if idle else ""))
