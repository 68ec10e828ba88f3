"""The work of the benchmarks' tasks: none, or the seconds that a name says. All the rest is the product's own."""

from __future__ import annotations

import time

from tta_tasks.errors import EngineFailed
from tta_tasks.ledger import Ledger
from tta_tasks.models import CollectionRequest, GenerationRequest, Result, Status, TaskRecord
from tta_tasks.tasks import RESULTS

#: Module names, and a component's for its other stages: ``m12-0.30`` takes 0.30 s.
SEPARATOR = "-"


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Take the time that the name says; the entry point ``perform`` of ``tta_tasks.worker``.

    Raises:
        EngineFailed: The callback did not find every result.
    """
    request = task.request
    if isinstance(request, CollectionRequest):
        found = [need.result is not None and need.result.ok for need in ledger.tasks(request.needs)]
        if not all(found):
            raise EngineFailed(f"{found.count(False)} of {len(found)} results are missing.")
    else:
        name = request.module.name if isinstance(request, GenerationRequest) else request.component.name
        seconds = float(name.partition(SEPARATOR)[2] or 0)
        if seconds:
            time.sleep(seconds)
    return RESULTS[request.kind](status=Status.COMPLETED)
