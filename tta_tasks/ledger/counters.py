"""What is counted for good when a task moves, so that figures need no scan of runs.

One hash, ``<prefix>counters``: ``name:label:...`` -> how much. Its fields are bounded by the stages and statuses there
are; the transitions add to it in the same atomic step (``_count.lua``).
"""

from __future__ import annotations

from typing import Final

from tta_tasks.models import GenerationResult, RefactoringResult, Result, TaskRecord

#: Counter -> what its labels are, and what it counts.
COUNTERS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "started": (("stage",), "Tasks that a worker began, each attempt counted."),
    "redelivered": (("stage",), "Attempts on a message that the broker delivered again, as its worker was lost."),
    "retried": (("stage",), "Tasks put back after a transient fault."),
    "lost": (("stage",), "Tasks put back because their worker, its process or their message was lost."),
    "ended": (("stage", "status"), "Tasks that ended."),
    "cached": (("stage",), "Tasks answered from the result cache."),
    "dead": (("stage",), "Tasks given up."),
    "evicted": (("kind",), "Cached results and artifacts that were removed to make room for others."),
    "runs": (("status",), "Runs that ended."),
    "notified": (("observer", "outcome"), "Attempts to notify observers of ends of runs and tasks."),
    "statements_gained": ((), "Statements that generated tests cover and no test covered before."),
    "tests_accepted": ((), "Generated tests that were kept."),
    "tests_rejected": ((), "Generated tests that were not."),
    "tokens": (("kind",), "Tokens that agents took."),
    "cost_usd": ((), "What agents' models charged, in US dollars."),
}
#: Histogram -> what its labels are, and what it measures, in seconds. ``_observe.lua`` fills them.
HISTOGRAMS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "task_seconds": (("stage",), "Time from a task's first start to its end."),
    "run_seconds": (("status",), "Time from a run's submission to its end."),
}
#: Upper edges of the histograms' buckets, in seconds.
EDGES: Final = (1, 5, 15, 60, 300, 900, 3600, 14400)


def ended(task: TaskRecord, result: Result) -> dict[str, float]:
    """What a task's end adds."""
    added: dict[str, float] = {f"ended:{task.stage}:{result.status}": 1}
    if result.cached:
        return added | {f"cached:{task.stage}": 1}  # its figures were counted when the work was done
    if isinstance(result, GenerationResult):
        added |= {"tests_accepted": len(result.accepted), "tests_rejected": len(result.rejected)}
        if result.coverage_before is not None and result.coverage_after is not None:
            gained = result.coverage_after.covered_statements - result.coverage_before.covered_statements
            added["statements_gained"] = max(gained, 0)
    if isinstance(result, GenerationResult | RefactoringResult):
        usage = result.usage
        added |= {"tokens:prompt": usage.prompt_tokens, "tokens:completion": usage.completion_tokens}
        added["cost_usd"] = usage.cost_usd
    return {name: amount for name, amount in added.items() if amount}
