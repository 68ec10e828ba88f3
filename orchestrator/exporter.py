"""Figures for Prometheus that Flower has not: how long work waits, who holds what, what became of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tta_tasks.errors import TransientError
from tta_tasks.fleet import Fleet, FleetState
from tta_tasks.ledger.counters import COUNTERS, EDGES, HISTOGRAMS

log = logging.getLogger(__name__)

BREAKER_STATES = ("closed", "half-open", "open")
#: The label of messages whose priority the broker does not tell.
ANY = "any"


class FleetCollector(Collector):
    """Looks at the fleet whenever it is scraped.

    Args:
        fleet: What to look at.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """All figures; only that there are none, when broker or ledger do not answer."""
        try:
            state = self._fleet.look()
        except TransientError as error:
            log.warning("No figures: %s", error)
            yield GaugeMetricFamily("tta_up", "Whether broker and ledger answer.", value=0)
            return
        yield GaugeMetricFamily("tta_up", "Whether broker and ledger answer.", value=1)
        yield GaugeMetricFamily("tta_dead_letters", "Tasks that were given up, and are kept.", value=state.dead)
        yield GaugeMetricFamily(
            "tta_reconciler_elected", "Whether a worker looks after what was lost.", value=float(state.reconciled)
        )
        yield from _queues(state)
        yield _breakers(state)
        yield from _counters(state.counters)
        yield from _histograms(state.counters)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registering must not need a broker."""
        return ()


def _queues(state: FleetState) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("tta_queue_waiting", "Messages that wait in the broker.", labels=["queue", "priority"])
    oldest = GaugeMetricFamily(
        "tta_queue_oldest_seconds", "How long the oldest waiting message has waited.", labels=["queue", "priority"]
    )
    single = {
        name: GaugeMetricFamily(f"tta_queue_{name}", text, labels=["queue"])
        for name, text in (
            ("open", "Tasks accepted and not ended: waiting for others, waiting for a worker, parked, running."),
            ("running", "Tasks that a worker is doing."),
            ("parked", "Deployments that wait for their time, or for a person."),
            ("workers", "Workers that take tasks."),
            ("slots", "Tasks that those workers could do at once."),
            ("lease_age_seconds", "How long the least lively running task has given no sign of life."),
        )
    }
    for queue in state.queues:
        for found in queue.waiting:
            waiting.add_metric([queue.name, found.priority or ANY], found.count)
            if found.priority is not None:
                oldest.add_metric([queue.name, found.priority], found.oldest_s or 0.0)
        values = (queue.open, queue.running, queue.parked, len(queue.workers), queue.slots, queue.lease_age_s)
        for family, value in zip(single.values(), values, strict=True):
            family.add_metric([queue.name], value)
    yield from (waiting, oldest, *single.values())


def _breakers(state: FleetState) -> Metric:
    family = GaugeMetricFamily(
        "tta_breaker_state", "1 for the state that the circuit breaker of a service is in.", labels=["service", "state"]
    )
    for service, now in state.breakers.items():
        for each in BREAKER_STATES:
            family.add_metric([service, each], float(each == now))
    return family


def _counters(counted: dict[str, float]) -> Iterator[Metric]:
    for name, (labels, text) in COUNTERS.items():
        family = CounterMetricFamily(f"tta_{name}", text, labels=labels)
        for field, amount in counted.items():
            found, *values = field.split(":")
            if found == name:
                family.add_metric(values, amount)
        if not labels and not family.samples:
            family.add_metric([], 0)
        yield family


def _histograms(counted: dict[str, float]) -> Iterator[Metric]:
    for name, (labels, text) in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"tta_{name}", text, labels=labels)
        for field, total in counted.items():
            series, _, part = field.rpartition(":")
            found, *values = series.split(":")
            if found == name and part == "sum":
                family.add_metric(values, list(_buckets(series, counted)), total)
        yield family


def _buckets(series: str, counted: dict[str, float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    for edge in EDGES:
        total += counted.get(f"{series}:{edge}", 0.0)
        yield str(float(edge)), total
    yield "+Inf", total + counted.get(f"{series}:inf", 0.0)
