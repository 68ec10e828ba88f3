"""The gates: what a tree must satisfy for a target. A file a gate; found by the entry points ``tta_tasks.gates``.

A code base is not blocked by its history: of what the tools find, only what the tree has beyond its baseline counts.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from tta_tasks import plugins, tracing
from tta_tasks.errors import EngineFailed
from tta_tasks.models import GateOutcome, Gates
from tta_tasks.protocols import Gate, GateJob

__all__ = ["judge", "load"]

log = logging.getLogger(__name__)


def load(gates: Gates) -> tuple[Gate, ...]:
    """Load this project's gates in the order of ``Gates``, then those of other packages by name.

    Raises:
        UnknownEngine: One with a threshold in ``gates`` is not installed here, or an installed one is no gate.
    """
    own = Gates.names()
    others = {*plugins.names(plugins.GATES), *gates.plugins}.difference(own)
    return tuple(plugins.create(plugins.GATES, name, Gate) for name in (*own, *sorted(others)))


@tracing.step("gates")
def judge(job: GateJob) -> tuple[GateOutcome, ...]:
    """Judge a tree by all gates, side by side.

    Returns:
        One outcome a gate, in the order of :func:`load`. A tool that cannot work is a verdict, too.
    """
    with ThreadPoolExecutor(thread_name_prefix="gate") as pool:
        return tuple(pool.map(lambda gate: _judged(gate, job), load(job.gates)))


def _judged(gate: Gate, job: GateJob) -> GateOutcome:
    try:
        outcome = gate.judge(job)
    except EngineFailed as error:
        outcome = _undecided(gate, job, str(error))
    except Exception as error:
        log.exception("Gate %s", gate.name)
        outcome = _undecided(gate, job, f"it raised {type(error).__name__}: {error}")
    remedy = gate.remedy(job) if outcome.outcome == "failed" else ""
    return outcome.model_copy(update={"name": gate.name, "remedy": remedy})


def _undecided(gate: Gate, job: GateJob, why: str) -> GateOutcome:
    """The outcome of a gate that came to no verdict."""
    return GateOutcome(name=gate.name, outcome="failed" if job.gates.enforced(gate.name) else "reported", detail=why)
