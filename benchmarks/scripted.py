"""The work of the benchmarks' tasks: none, or the seconds that a name says. All the rest is the product's own.

In a component whose name begins with ``measured`` the tasks pass on to each other what real ones do: the baseline has
the coverage of every module, generation reads that of its own, and answers with tests.
"""

from __future__ import annotations

import time
from typing import Any

from tta_tasks.errors import EngineFailed
from tta_tasks.kinds import kind_of
from tta_tasks.ledger import Ledger
from tta_tasks.models import (
    AcceptedTest,
    CollectionRequest,
    GenerationRequest,
    ModuleCoverage,
    Result,
    Status,
    SuiteReport,
    TaskRecord,
    TestingRequest,
)

#: Module names, and a component's for its other stages: ``m12-0.30`` takes 0.30 s.
SEPARATOR = "-"
MEASURED = "measured"
#: Of each module of such a component: lines, of which a quarter is covered, and tests that are accepted.
LINES, TESTS = 80, 12


def perform(task: TaskRecord, ledger: Ledger) -> Result:
    """Take the time that the name says; the entry point ``perform`` of ``tta_tasks.worker``.

    Raises:
        EngineFailed: The callback did not find every result.
    """
    request = task.request
    if isinstance(request, CollectionRequest):
        found = [result is not None and result.ok for result in ledger.results(request.needs)]
        if not all(found):
            raise EngineFailed(f"{found.count(False)} of {len(found)} results are missing.")
    else:
        name = request.module.name if isinstance(request, GenerationRequest) else request.component.name
        seconds = float(name.partition(SEPARATOR)[2] or 0)
        if seconds:
            time.sleep(seconds)
    content = _content(task, ledger) if request.component.name.startswith(MEASURED) else {}
    return kind_of(request).result.model_validate({"status": Status.COMPLETED, **content})


def _content(task: TaskRecord, ledger: Ledger) -> dict[str, Any]:
    request = task.request
    if isinstance(request, TestingRequest):
        coverage = tuple(_coverage(module.path, LINES // 4) for module in request.component.modules)
        return {"suite": SuiteReport(passed=1, coverage=coverage)}
    if isinstance(request, GenerationRequest):
        before = _baseline(request, ledger)
        accepted = tuple(AcceptedTest(name=f"test_{request.module.name}_{n}", reason="coverage") for n in range(TESTS))
        after = _coverage(request.module.path, LINES)
        return {"module": request.module, "coverage_before": before, "coverage_after": after, "accepted": accepted}
    return {}


def _coverage(path: str, covered: int) -> ModuleCoverage:
    missing = tuple(range(covered, LINES))
    return ModuleCoverage(
        path=path, statements=LINES, covered_statements=covered, branches=0, covered_branches=0, missing_lines=missing
    )


def _baseline(request: GenerationRequest, ledger: Ledger) -> ModuleCoverage | None:
    """As :mod:`workers.stages.generation` reads it."""
    suite = ledger.baselines.get(request.needs[0], request.module.path)
    return suite.coverage[0] if suite is not None else None
