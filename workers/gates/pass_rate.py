"""The share of the tests that pass."""

from __future__ import annotations

from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob
from workers.gates.findings import MAX_LISTED


class PassRateGate:
    """Fails when too many tests fail, or the suite does not come to its end."""

    name = "pass_rate"
    of_the_source = False

    def judge(self, job: GateJob) -> GateOutcome:
        """Compare the pass rate with its threshold; the findings are the failing tests."""
        suite, threshold = job.suite, job.gates.pass_rate
        holds = not suite.aborted and suite.pass_rate >= threshold
        ended = f"{suite.pass_rate:.1f} % of {threshold:g} %"
        return GateOutcome(
            name=self.name,
            outcome="passed" if holds else "failed",
            detail=f"the suite did not come to its end: {suite.aborted}" if suite.aborted else ended,
            findings=tuple(failure.id for failure in suite.failures[:MAX_LISTED]),
        )

    def remedy(self, job: GateJob) -> str:  # noqa: ARG002 - the same for every tree
        """What to do about failing tests."""
        return "mend the failing tests"
