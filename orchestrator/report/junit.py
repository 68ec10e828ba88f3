"""The report as JUnit XML, for CI servers: a suite a stage, a case per failing test, module, step, gate and release.

What does not fail a run (a module without tests, a dropped refactoring) is *skipped* here, so that a CI server and the
run agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from orchestrator.report.model import ModuleSummary, ReleaseSummary, Report, StageSummary
from orchestrator.report.wording import change, counted
from orchestrator.sanitize import sanitize, sanitize_lines
from tta_tasks.models import Stage, Status


def to_junit(report: Report) -> str:
    """Render ``report``."""
    xml = JUnitXml(sanitize(f"{report.component.name} to {report.target}"))
    for stage in report.stages:
        suite = TestSuite(stage.stage.value)
        suite.add_property("run", report.run_id)
        suite.add_testcases(_cases(report, stage))
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + str(xml.tostring().decode()) + "\n"  # type: ignore[no-untyped-call]


def _cases(report: Report, stage: StageSummary) -> list[TestCase]:
    match stage.stage:
        case Stage.TESTING:
            cases = [_case(stage, failure.id, failed=failure.message) for failure in report.failures]
            return [*cases, _of_stage(stage)] if stage.status is Status.FAILED else [_of_stage(stage)]
        case Stage.GENERATION:
            return [_module(stage, module) for module in report.modules]
        case Stage.REFACTORING:
            return [*_steps(report, stage), _of_stage(stage, optional=True)]
        case Stage.COLLECTION:
            return [*_gates(report, stage), _of_stage(stage)]
        case _:
            return [_release(stage, release) for release in report.releases if release.environment == stage.stage]


def _case(
    stage: StageSummary,
    name: str,
    *,
    failed: str | None = None,
    error: str | None = None,
    skipped: str | None = None,
    output: str = "",
    duration_s: float = 0.0,
) -> TestCase:
    case = TestCase(sanitize(name) or "unnamed", classname=f"tta.{stage.stage}", time=round(duration_s, 3))
    for kind, message in ((Failure, failed), (Error, error), (Skipped, skipped)):
        if message is not None:
            result = kind(sanitize(message))
            result.text = sanitize_lines(message)
            case.result += [result]
    if output:
        case.system_out = sanitize_lines(output)
    return case


def _of_stage(stage: StageSummary, *, optional: bool = False) -> TestCase:
    """The stage itself: it ran, or why it did not."""
    why = "\n".join(stage.errors) or f"The stage ended as {stage.status}."
    duration = stage.duration_s or 0.0
    if stage.status is Status.COMPLETED:
        return _case(stage, stage.stage.value, duration_s=duration)
    if stage.status is Status.FAILED and not optional:
        return _case(stage, stage.stage.value, error=why, duration_s=duration)
    return _case(stage, stage.stage.value, skipped=why, duration_s=duration)


def _module(stage: StageSummary, module: ModuleSummary) -> TestCase:
    output = (
        f"coverage {change(module.before, module.after)}, {counted(len(module.accepted), 'test')} accepted, "
        f"{len(module.rejected)} rejected"
    )
    done = module.status is Status.COMPLETED
    why = None if done else module.note or f"No tests were generated: {module.status}."
    return _case(stage, module.name, skipped=why, output=output, duration_s=module.duration_s or 0.0)


def _steps(report: Report, stage: StageSummary) -> Iterable[TestCase]:
    for step in report.refactoring:
        yield _case(stage, step.name, skipped=step.detail if step.outcome == "dropped" else None, output=step.detail)


def _gates(report: Report, stage: StageSummary) -> Iterable[TestCase]:
    for gate in report.gates:
        findings = "\n".join([gate.detail, *filter(None, [gate.remedy, gate.waits_for]), *gate.findings])
        yield _case(
            stage,
            f"gate {gate.name}",
            failed=findings if gate.outcome == "failed" else None,
            skipped=gate.waits_for or gate.detail if gate.outcome in {"off", "parked"} else None,
            output=findings,
        )


def _release(stage: StageSummary, release: ReleaseSummary) -> TestCase:
    name = f"release to {release.environment}"
    checks = "\n".join(f"{'held' if ok else 'failed'}: {text}" for text, ok in release.checks)
    if release.status is Status.COMPLETED:
        output = f"{release.action} {release.location}\n{checks}"
        return _case(stage, name, output=output, duration_s=stage.duration_s or 0.0)
    why = release.error or release.waits or f"The release ended as {release.status}."
    if release.status is Status.FAILED:
        return _case(stage, name, error=why, output=checks, duration_s=stage.duration_s or 0.0)
    return _case(stage, name, skipped=why)
