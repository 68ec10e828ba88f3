"""The report, as data. Durations are seconds unless their name says ms; percentages run from 0 to 100."""

from __future__ import annotations

from orchestrator.timeline import Span
from tta_tasks.models import (
    Component,
    Criterion,
    Decision,
    Dropped,
    GateOutcome,
    Mode,
    Model,
    Promotion,
    RefactoringStep,
    RejectedTest,
    Stage,
    Status,
    Target,
    TestFailure,
    Usage,
)

#: What nobody should take generated tests for.
CHARACTERIZATION = (
    "Generated tests pin what the code does today. They tell when its behaviour changes; "
    "they do not judge whether that behaviour is right."
)


class StageSummary(Model):
    """One stage of the run."""

    stage: Stage
    status: Status
    #: Its tasks, how many of them were done, and how many of those came from the cache.
    tasks: int
    completed: int
    cached: int
    #: From the start of its first task to the end of its last.
    duration_s: float | None
    #: Why tasks of it failed, one line a reason.
    errors: tuple[str, ...] = ()


class ModuleSummary(Model):
    """What generation did for one module."""

    name: str
    path: str
    status: Status
    #: Line-and-branch coverage, where it was measured.
    before: float | None
    after: float | None
    #: Names of the accepted tests.
    accepted: tuple[str, ...]
    rejected: tuple[RejectedTest, ...]
    engines: tuple[str, ...]
    cached: bool
    threshold_met: bool
    duration_s: float | None
    #: Test files written.
    files: tuple[str, ...]
    #: Why its tests are not in the collected tree, why there are none, or what an engine could not do.
    note: str = ""
    #: What agents took for it, and how often they were asked.
    usage: Usage = Usage()
    rounds: int = 0


class CriterionSummary(Model):
    """An acceptance criterion, and the accepted tests that speak to it."""

    criterion: Criterion
    #: ``module::test``.
    tests: tuple[str, ...]


class ReleaseSummary(Model):
    """What happened in one environment."""

    environment: str
    status: Status
    #: ``released``, ``unchanged``, ``rolled_back``, or empty.
    action: str
    location: str
    release: str
    previous: str
    #: ``name: detail`` of each check, and whether it held.
    checks: tuple[tuple[str, bool], ...]
    error: str = ""
    #: What it waits for while it is parked, in words; its terms, and what a person decided.
    waits: str = ""
    promotion: Promotion | None = None
    decision: Decision | None = None


class Report(Model):
    """What came of a run."""

    run_id: str
    title: str
    spec: str
    repository: str
    commit: str
    component: Component
    target: Target
    mode: Mode
    status: Status
    #: What came of it in one sentence.
    verdict: str
    #: Seconds since the epoch.
    created_at: float
    #: The environment that the component's tests ran in, and the sandbox around it.
    python: str
    sandbox: str

    #: From the first submission to the last end.
    measured_s: float
    #: How much of that it was parked.
    parked_s: float
    #: The least time the same work could have taken on ``slots`` workers.
    floor_s: float
    slots: int
    #: Stage -> wall time in milliseconds.
    stage_timings: dict[str, float]
    timeline: tuple[Span, ...]

    coverage_before: float | None
    coverage_after: float | None
    #: What the target asks for.
    coverage_threshold: float
    tests_before: int | None
    tests_accepted: int
    tests_rejected: int
    #: Tasks whose result was taken from an earlier, identical one.
    cached_tasks: int
    #: What agents took for all of it.
    usage: Usage = Usage()

    stages: tuple[StageSummary, ...]
    modules: tuple[ModuleSummary, ...]
    criteria: tuple[CriterionSummary, ...]
    refactoring: tuple[RefactoringStep, ...]
    gates: tuple[GateOutcome, ...]
    dropped: tuple[Dropped, ...]
    releases: tuple[ReleaseSummary, ...]
    #: Failing tests of the baseline, or of the collected tree.
    failures: tuple[TestFailure, ...]
    warnings: tuple[str, ...]
    note: str = CHARACTERIZATION

    @property
    def taken(self) -> str:
        """What the accepted tests are: added by a run that came to its end, else only accepted."""
        return "added" if self.status is Status.COMPLETED else "accepted"

    @property
    def rejections(self) -> dict[str, int]:
        """Reason -> how many generated tests were rejected for it, most frequent first."""
        reasons: dict[str, int] = {}
        for module in self.modules:
            for test in module.rejected:
                reasons[test.reason] = reasons.get(test.reason, 0) + 1
        return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
