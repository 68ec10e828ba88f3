"""Traces: off unless somebody collects; one trace a run, whoever has a part in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tta_tasks import tracing
from tta_tasks.errors import EngineFailed
from tta_tasks.models import Component, Module, Status, TaskRecord, TestingRequest, TestingResult
from tta_tasks.requests import failed, record_of

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.conftest import Collector


@pytest.fixture
def traced(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """This process sends its traces to the collector."""
    collector.spans.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing._tracer.cache_clear()
    yield collector
    tracing._tracer.cache_clear()


def record(run_id: str | None) -> TaskRecord:
    component = Component(name="calculator", modules=(Module(name="calculator", path="calculator.py"),))
    return record_of(TestingRequest(run_id=run_id, snapshot="0" * 64, component=component), "task-1")


def by_name(collector: Collector) -> dict[str, Span]:
    tracing.flush()
    return {span.name: span for span in collector.spans}


def test_a_run_is_one_trace(traced: Collector) -> None:
    """What is handed in is the first span; tasks hang from it, and their steps from them, without any context sent."""
    with tracing.submission("run-1", "calculator", **{"tta.target": "staging"}):
        pass
    with tracing.task(record("run-1"), lambda: 1.5) as tell:
        with tracing.span("environment"):
            tracing.step("suite")(lambda: None)()
        tell(TestingResult(status=Status.COMPLETED))
    spans = by_name(traced)
    assert set(spans) == {"run calculator", "test", "environment", "suite"}
    assert len({span.trace_id for span in spans.values()}) == 1
    above = {span.name: span.parent_span_id for span in spans.values()}
    assert above == {
        "run calculator": b"",
        "test": spans["run calculator"].span_id,
        "environment": spans["test"].span_id,
        "suite": spans["environment"].span_id,
    }
    facts = {fact.key: fact.value for fact in spans["test"].attributes}
    assert facts["tta.waited_s"].double_value == 1.5
    assert facts["tta.status"].string_value == "completed"
    assert facts["messaging.destination.name"].string_value == "testing"


def test_runs_have_traces_of_their_own(traced: Collector) -> None:
    """Two runs, and a task without a run, are three traces."""
    for run_id in ("run-1", "run-2", None):
        with tracing.task(record(run_id), lambda: 0.0):
            pass
    by_name(traced)
    assert len({span.trace_id for span in traced.spans}) == 3


def test_faults_are_marked(traced: Collector) -> None:
    """A result that is a fault, and an exception, are errors of their spans."""
    with tracing.task(record("run-1"), lambda: 0.0) as tell:
        tell(failed(record("run-1").request, EngineFailed("It gave up.")))
    assert by_name(traced)["test"].status.message == "EngineFailed: It gave up."
    traced.spans.clear()
    with pytest.raises(EngineFailed), tracing.task(record("run-1"), lambda: 0.0):
        raise EngineFailed("It gave up.")
    assert by_name(traced)["test"].status.code == 2


def test_steps_outside_of_a_task_are_nothing(traced: Collector) -> None:
    """A step that no task is around (in `tta doctor`, say) begins no trace."""
    with tracing.span("environment"):
        pass
    assert not by_name(traced)


def test_sampling_is_the_same_everywhere(traced: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ratio of runs sampled, each run is in the traces with all its spans or with none."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    for number in range(40):
        with tracing.submission(f"run-{number}", "calculator"):
            pass
        with tracing.task(record(f"run-{number}"), lambda: 0.0):
            pass
    by_name(traced)
    seen = [span.trace_id for span in traced.spans]
    assert 0 < len(set(seen)) < 40
    assert all(seen.count(trace_id) == 2 for trace_id in seen)


def test_off_it_costs_nothing() -> None:
    """Without a collector nothing of OpenTelemetry is imported, and a task is not asked for anything."""
    program = """
import sys
from tta_tasks import tracing
with tracing.submission("run-1", "calculator"), tracing.task(None, lambda: 1 / 0) as tell, tracing.span("suite"):
    tell(None)
tracing.flush()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={}, capture_output=True)
