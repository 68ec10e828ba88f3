"""``tta metrics``: figures for Prometheus."""

from __future__ import annotations

import signal
import threading

import click

from tta_tasks.errors import SettingsError
from tta_tasks.fleet import Fleet
from tta_tasks.ledger import Ledger
from tta_tasks.settings import settings


@click.command(short_help="Serve figures for Prometheus.")
@click.option(
    "--address", envvar="TTA_METRICS_ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen."
)
@click.option("--port", envvar="TTA_METRICS_PORT", type=click.IntRange(1, 65535), default=9465, show_default=True)
def metrics(address: str, port: int) -> None:
    """Serve figures of queues, workers and what became of tasks, for Prometheus.

    They are read when somebody asks; one of these is enough for an installation. It asks for no password: let only
    Prometheus reach it.
    """
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - an extra

    from orchestrator.exporter import FleetCollector  # noqa: PLC0415 - likewise

    chosen = settings()
    if not chosen.broker:
        raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
    registry = CollectorRegistry()
    registry.register(FleetCollector(Fleet(Ledger.connect(chosen), chosen)))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server, thread = start_http_server(port, address, registry)
    click.echo(f"Figures: http://{address}:{port}/metrics", err=True)
    ended.wait()
    server.shutdown()
    thread.join()
