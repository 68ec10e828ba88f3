"""Traces of runs by OpenTelemetry: one trace a run, over every process that has a part in it.

Off, and costing a look at the environment, unless a collector is named (``OTEL_EXPORTER_OTLP_ENDPOINT``) and the extra
is installed (``tta-tasks[otel]``). Its other variables (``OTEL_*``) hold as everywhere.

Messages carry no context: a run's trace, and the span that everything hangs from, are derived from its id, so each
process knows them by itself.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from tta_tasks.models import Result, TaskRecord

log = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: Milliseconds that ended spans wait to be sent together; a worker's process may be gone soon.
DELAY_MS: Final = 500

P = ParamSpec("P")
T = TypeVar("T")

#: Ids of the trace and of the span that is begun next, where they are not to be random.
_wanted: ContextVar[tuple[int, int] | None] = ContextVar("wanted", default=None)


def on() -> bool:
    """Whether a collector is named."""
    return any(os.environ.get(name) for name in ENDPOINTS)


@contextmanager
def submission(run_id: str, title: str, **facts: str | float) -> Iterator[None]:
    """The first span of a run's trace: it is handed in."""
    if (tracer := _tracer()) is None:
        yield
        return
    from opentelemetry.context import Context  # noqa: PLC0415 - an extra

    token = _wanted.set(_ids(run_id))
    try:
        # An empty context: what the caller traces of its own is another trace.
        span = tracer.start_span(f"run {title}", context=Context(), attributes={"tta.run": run_id, **facts})
    finally:
        _wanted.reset(token)
    with _current(span):
        yield


@contextmanager
def task(record: TaskRecord, waited_s: Callable[[], float]) -> Iterator[Callable[[Result], None]]:
    """The span of a task at its worker; tell it the result.

    Args:
        record: The task.
        waited_s: How long it waited for a worker; asked only where there is a trace.
    """
    if (tracer := _tracer()) is None:
        yield lambda _: None
        return
    facts = {
        "tta.run": record.run_id or "",
        "tta.task": record.id,
        "tta.stage": record.stage.value,
        "tta.priority": record.priority,
        "tta.component": record.request.component.name,
        "messaging.destination.name": record.queue,
        "tta.waited_s": waited_s(),
    }
    span = tracer.start_span(record.label, context=_run(record.run_id or record.id), attributes=facts)
    with _current(span):
        yield functools.partial(_tell, span)


@contextmanager
def span(name: str, **facts: str | float) -> Iterator[None]:
    """One of the big steps inside a task; nothing outside of one."""
    tracer = _tracer()
    if tracer is None or not _inside():
        yield
        return
    with _current(tracer.start_span(name, attributes=facts)):
        yield


def step(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function such a step."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def traced(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return traced

    return decorate


def flush() -> None:
    """Send what has ended; for processes that are about to be gone."""
    if on() and _tracer.cache_info().currsize and (tracer := _tracer()) is not None:
        tracer.span_processor.force_flush(2000)  # type: ignore[attr-defined]


def _tell(span: Span, result: Result) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

    facts: dict[str, Any] = {"tta.status": result.status.value, "tta.cached": result.cached}
    usage = getattr(result, "usage", None)
    if usage is not None:
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        facts |= {f"tta.{name}": amount for name, amount in tokens.items()} | {"tta.cost_usd": usage.cost_usd}
    span.set_attributes(facts)
    if result.error is not None:
        span.set_status(Status(StatusCode.ERROR, f"{result.error.type}: {result.error.message}"))


@contextmanager
def _current(span: Span) -> Iterator[None]:
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    with trace.use_span(span, end_on_exit=True, record_exception=False):
        yield


def _inside() -> bool:
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    return trace.get_current_span().get_span_context().is_valid


def _run(run_id: str) -> Context:
    """The context of a run's first span, which another process has made."""
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    trace_id, span_id = _ids(run_id)
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if _sampled(trace_id) else trace.TraceFlags.DEFAULT)
    known = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(known))


def _sampled(trace_id: int) -> bool:
    """What the producer's sampler has decided, as ours decides by the same id."""
    tracer: Any = _tracer()
    return bool(tracer.sampler.should_sample(None, trace_id, "run").decision.is_sampled())


def _ids(run_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(f"tta run {run_id}".encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


@functools.lru_cache(maxsize=1)
def _tracer() -> Tracer | None:
    """This process's tracer; ``None`` where nobody collects."""
    if not on():
        return None
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        log.warning("No traces, though a collector is named: pip install 'tta-tasks[otel]'.")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415 - likewise

    class Ids(RandomIdGenerator):
        """Random ones, unless some are wanted."""

        def generate_trace_id(self) -> int:
            return (_wanted.get() or (0, 0))[0] or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return (_wanted.get() or (0, 0))[1] or super().generate_span_id()

    name = os.environ.get("OTEL_SERVICE_NAME", "tta")
    provider = TracerProvider(resource=Resource.create({"service.name": name}), id_generator=Ids())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=DELAY_MS))
    return provider.get_tracer("tta_tasks")
