"""Which artifacts open tasks need, so that a store which is full gives up others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from tta_tasks.ledger import Ledger
from tta_tasks.models import TaskRecord
from tta_tasks.queues import NAMES

#: Records read in one round trip.
BATCH = 500


def needed(ledger: Ledger) -> set[str]:
    """What open tasks begin with: their snapshots, and what the tasks whose results they need have left.

    Raises:
        StoreUnavailable: The ledger does not answer.
        RecordUnreadable: Nobody here can tell what one of them needs.
    """
    digests: set[str] = set()
    needs: set[str] = set()
    for task in _records(ledger, chain.from_iterable(ledger.open_ids(queue) for queue in NAMES)):
        digests.add(task.request.snapshot)
        needs.update(task.request.needs)
    for task in _records(ledger, needs):
        digests.update(task.result.artifacts if task.result else ())
    return digests


def _records(ledger: Ledger, task_ids: Iterable[str]) -> Iterator[TaskRecord]:
    rest = iter(task_ids)
    while ids := list(islice(rest, BATCH)):
        yield from ledger.known(ids)
