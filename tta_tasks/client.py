"""For producers: hand work in, get an id at once, watch it, stop it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from celery.canvas import Signature
from kombu.exceptions import OperationalError

from tta_tasks.celery import app, configuration
from tta_tasks.errors import BrokerUnavailable, SettingsError
from tta_tasks.ledger import Ledger, without_password
from tta_tasks.models import RunPlan, RunRecord, TaskRecord
from tta_tasks.protocols import ArtifactStore
from tta_tasks.settings import Settings, settings
from tta_tasks.stores import open_store


class TaskClient:
    """A producer's view of an installation.

    Args:
        ledger: Where accepted work is written down.
        store: Where snapshots and patches are kept.
        settings: How this process is set up.
    """

    def __init__(self, ledger: Ledger, store: ArtifactStore, settings: Settings) -> None:
        self.ledger = ledger
        self.store = store
        self._settings = settings

    @classmethod
    def connect(cls, to: Settings | None = None) -> Self:
        """A client of the installation that the environment (or ``to``) names. A process has one.

        Raises:
            SettingsError: No broker is named.
        """
        chosen = to or settings()
        if not chosen.broker:
            raise SettingsError("No broker is configured.", "Set TTA_BROKER_URL, or start a local one with `tta up`.")
        app.conf.update(configuration(chosen))
        return cls(Ledger.connect(chosen), open_store(chosen), chosen)

    @property
    def transport(self) -> str:
        """The kind of broker, as kombu names it: ``redis`` or ``amqp``."""
        return "amqp" if self._settings.broker.startswith("amqp") else "redis"

    def submit_run(self, plan: RunPlan, tasks: Sequence[TaskRecord], canvas: Signature[Any]) -> str:
        """Write a run down, then publish it.

        Returns:
            The run's id.

        Raises:
            StoreUnavailable: The ledger does not answer; nothing was published.
            BrokerUnavailable: The broker does not answer; the run stays accepted and unpublished.
        """
        self.ledger.accept(tasks, plan)
        try:
            canvas.apply_async()
        except OperationalError as error:
            raise BrokerUnavailable(
                f"The broker at {without_password(self._settings.broker)} does not answer: {error}.",
                "Is it running, and is TTA_BROKER_URL right?",
            ) from error
        return plan.id

    def watch(self, run_id: str, poll_interval: float = 2.0) -> Iterator[RunRecord]:
        """Yield the run's record now, after each change, and at last when it is terminal.

        Waits on the run's event stream; ``poll_interval`` (s) is how long a lost notification may go unnoticed. A
        record is yielded at least that often, so that a view can keep its clocks running.

        Raises:
            RecordMissing: No such run.
            StoreUnavailable: The ledger does not answer.
        """
        record = self.ledger.run(run_id)
        position = "0"
        while True:
            yield record
            if record.status.terminal:
                return
            happened = self.ledger.events(run_id, after=position, wait_s=poll_interval)
            record = self._renewed(record, {event.task_id for _, event in happened})
            position = happened[-1][0] if happened else position

    def _renewed(self, record: RunRecord, changed: set[str]) -> RunRecord:
        """``record`` with the changed tasks read again; with none, all that have not ended."""
        stale = [task.id for task in record.tasks if (task.id in changed if changed else not task.status.terminal)]
        fresh = {task.id: task for task in self.ledger.tasks(stale)}
        tasks = tuple(fresh.get(task.id, task) for task in record.tasks)
        return record.model_copy(update={"tasks": tasks, "cancelled": self.ledger.cancelled(record.plan.id)})
