"""The worker: ``celery -A workers worker -Q QUEUE,...`` (:data:`tta_tasks.queues.NAMES`)."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from celery.signals import setup_logging, worker_init, worker_process_init, worker_process_shutdown

from tta_tasks import plugins, tracing
from tta_tasks.backend import quiet
from tta_tasks.celery import app
from tta_tasks.errors import TransientError
from tta_tasks.settings import settings
from tta_tasks.stores import open_store
from workers import sandbox
from workers.process import delivery
from workers.process.admission import Admission
from workers.process.lease import Holding, Lease
from workers.process.observing import Observing
from workers.process.reconciler import Reconciling
from workers.sandbox import tempdirs

__all__ = ["app"]

log = logging.getLogger(__name__)

app.conf.update(result_backend=quiet(settings().redis))
if settings().transport == "redis":
    app.conf.broker_transport = "workers.process.transport:Transport"
app.Task.Request = "workers.process.celery_request:CeleryRequest"
app.Task.Strategy = "workers.process.celery_request:strategy"
app.steps["consumer"].add(Lease)
app.steps["consumer"].add(Admission)
app.steps["worker"].add(Holding)
app.steps["worker"].add(Reconciling)
app.steps["worker"].add(Observing)


@setup_logging.connect
def _log_to_stderr(loglevel: int | str | None = None, **_: Any) -> None:  # noqa: ANN401 - signal's own
    logging.basicConfig(
        level=loglevel or logging.INFO,
        format="%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # A line for each task that arrives says nothing that the line for its end does not.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@worker_process_shutdown.connect
def _send_traces(**_: Any) -> None:  # noqa: ANN401 - signal's own
    tracing.flush()


@worker_init.connect
def _tell_slots(sender: Any, **_: Any) -> None:  # noqa: ANN401 - signal's own
    app.conf.worker_concurrency = sender.concurrency  # the pool's processes inherit it


@worker_init.connect
def _load(**_: Any) -> None:  # noqa: ANN401 - signal's own
    """Import what does the work once, before the pool's processes are forked, and not in each at its first task."""
    for name in ("deliver", "perform", "promote"):
        plugins.load(plugins.WORKER, name)


@worker_process_init.connect
def _connect(**_: Any) -> None:  # noqa: ANN401 - signal's own
    with contextlib.suppress(TransientError):  # the first task tries again
        delivery.ledger().runs(1)


@worker_init.connect
@worker_process_init.connect
def _reap(**_: Any) -> None:  # noqa: ANN401 - signal's own
    """Remove what another worker left on this host, or the process of the pool whose place this one takes."""
    if reaped := tempdirs.reap(settings().cache / "work") + sandbox.reap():
        log.warning("Removed %d folders that a process left behind when it died.", reaped)


@worker_init.connect
def _prune(**_: Any) -> None:  # noqa: ANN401 - signal's own
    try:
        open_store(settings()).prune()
    except TransientError as error:
        log.warning("Expired artifacts stay until the next start: %s", error)
