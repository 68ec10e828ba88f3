"""The worker: ``celery -A workers worker -Q testing,openhands,refactoring,collection,deployment``."""

from __future__ import annotations

import logging
from typing import Any

from celery.signals import setup_logging, worker_init

from tta_tasks.celery import app
from tta_tasks.settings import settings
from workers import scratch
from workers.lease import Lease
from workers.reconciler import Reconciling

__all__ = ["app"]

log = logging.getLogger(__name__)

app.steps["consumer"].add(Lease)
app.steps["worker"].add(Reconciling)


@setup_logging.connect
def _log_to_stderr(loglevel: int | str | None = None, **_: Any) -> None:  # noqa: ANN401 - signal's own
    logging.basicConfig(
        level=loglevel or logging.INFO,
        format="%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


@worker_init.connect
def _reap(**_: Any) -> None:  # noqa: ANN401 - signal's own
    if reaped := scratch.reap(settings().cache / "work"):
        log.warning("Removed %d folders that a worker left behind when it died.", reaped)
