"""Alerts and dashboard: they parse, they fire when they should, and ask only for figures that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from orchestrator.exporter import _breakers, _counters, _histograms, _queues
from tta_tasks.fleet import FleetState, QueueState

FIGURE = re.compile(r"\btta_\w+")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all series that the exporter can give."""
    queue = QueueState(name="testing", open=0, running=0, parked=0, waiting=(), workers=())
    state = FleetState(at=0, queues=(queue,), dead=0, reconciled=True, counters={})
    names = {
        "tta_up",
        "tta_dead_letters",
        "tta_reconciler_elected",
        _breakers(state).name,
        *(family.name for family in _queues(state)),
    }
    names |= {f"{family.name}_total" for family in _counters({})}
    return names | {f"{family.name}_{part}" for family in _histograms({}) for part in ("bucket", "count", "sum")}


def expressions(root: Path) -> Iterator[str]:
    """Every PromQL expression of the dashboard, the alerts and the scalers."""
    dashboard = json.loads((root / "deploy/grafana/dashboards/fleet.json").read_text(encoding="utf-8"))
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    rules: dict[str, Any] = yaml.safe_load((root / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
    chart = (root / "deploy/helm/tta/templates/workers.yaml").read_text(encoding="utf-8")
    yield from (query.replace("{{ $queue }}", "testing") for query in re.findall(r"query: (.*)", chart))


def test_every_expression_parses(root: Path, needed: Callable[[str], ModuleType]) -> None:
    """Prometheus' grammar takes every expression we ship."""
    parser = needed("promql_parser")
    found = list(expressions(root))
    assert len(found) > 30
    for expression in found:
        parser.parse(expression)


def test_every_figure_asked_for_is_exported(root: Path, exported: set[str]) -> None:
    """No panel, alert or scaler waits for a figure that nobody gives."""
    asked = {name for expression in expressions(root) for name in FIGURE.findall(expression)}
    assert asked <= exported


def test_every_figure_is_documented(root: Path, exported: set[str]) -> None:
    """The reference names every metric."""
    text = (root / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(tta_\w+)`", text))
    assert documented == {re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name) for name in exported}


def test_alerts_fire_when_they_should_and_only_then(root: Path, checked: Callable[..., object]) -> None:
    """Promtool accepts configuration and rules, and their unit tests pass."""
    folder = root / "deploy" / "prometheus"
    checked("promtool", "check", "config", folder / "prometheus.yml")
    checked("promtool", "test", "rules", folder / "rules.test.yml")


def test_every_alert_has_a_test_and_tells_what_to_do(root: Path) -> None:
    """Each alert is expected to fire in some test, and says what is wrong and what to do."""
    folder = root / "deploy" / "prometheus"
    rules = yaml.safe_load((folder / "rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    tests = yaml.safe_load((folder / "rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules}
    assert all(rule["annotations"]["summary"] and rule["annotations"]["description"] for rule in rules)


def test_panels_do_not_overlap(root: Path) -> None:
    """Each place of the dashboard's grid belongs to one panel, and all have a title."""
    panels = json.loads((root / "deploy/grafana/dashboards/fleet.json").read_text(encoding="utf-8"))["panels"]
    places: list[tuple[int, int]] = []
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        places += [(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])]
    assert len(places) == len(set(places))
    assert all(panel["title"] for panel in panels)
