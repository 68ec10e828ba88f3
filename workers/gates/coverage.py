"""Line-and-branch coverage of the component's modules."""

from __future__ import annotations

from tta_tasks.models import GateOutcome, total_percent
from tta_tasks.protocols import GateJob

#: Least-covered modules named in the remedy.
MAX_NAMED = 3


class CoverageGate:
    """Fails when the tests cover too little, or coverage could not be measured."""

    name = "coverage"
    of_the_source = False

    def judge(self, job: GateJob) -> GateOutcome:
        """Compare the coverage with its threshold."""
        if not job.suite.coverage:
            return GateOutcome(name=self.name, outcome="failed", detail="coverage could not be measured")
        percent, threshold = total_percent(job.suite.coverage), job.gates.coverage
        covered = f"{percent:.1f} % of {threshold:g} %"
        return GateOutcome(name=self.name, outcome="passed" if percent >= threshold else "failed", detail=covered)

    def remedy(self, job: GateJob) -> str:
        """What raises coverage, with the least covered modules."""
        weakest = sorted(job.suite.coverage, key=lambda module: module.percent)[:MAX_NAMED]
        named = ", ".join(f"{module.path} ({module.percent:.0f} %)" for module in weakest if module.percent < 100)  # noqa: PLR2004 - percent
        return "give generation more time, or write tests" + (f" for {named}" if named else "")
