"""A gate that another package brings: words that the source must not have, or that a person must have seen."""

from __future__ import annotations

from tta_tasks.errors import EngineFailed
from tta_tasks.models import GateOutcome
from tta_tasks.protocols import GateJob


class WordsGate:
    """``[tool.tta.gates.plugins.words]`` with lists ``banned`` and ``asked``; broken by anything but such a table."""

    name = "words"
    of_the_source = True

    def judge(self, job: GateJob) -> GateOutcome:
        """Look for the words in all modules."""
        table = job.gates.plugins.get(self.name, {})
        if table == "a fault":
            raise LookupError("unforeseen")
        if not isinstance(table, dict):
            raise EngineFailed("words is no table.", "Write one.")
        text = " ".join((job.workspace.project / module.path).read_text() for module in job.workspace.component.modules)
        banned, asked = ([word for word in _list(table.get(key)) if word in text] for key in ("banned", "asked"))
        if banned:
            return GateOutcome(name=self.name, outcome="failed", detail=f"has {' and '.join(banned)}")
        if asked:
            return GateOutcome(name=self.name, outcome="parked", detail="has words", waits_for=f"look at {asked[0]}")
        return GateOutcome(name=self.name, outcome="passed", detail="no such word")

    def remedy(self, job: GateJob) -> str:
        """Name the words."""
        return f"use other words in {job.workspace.component.name}"


def _list(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
