"""A real run on a real fleet, seen from outside: its traces, and Prometheus' answers to every panel and scaler."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Collector

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TTA = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
#: Panels that are about what this run does not do: no agents, no faults, nothing that was done before.
EMPTY_HERE = {
    "Agents: tokens an hour",
    "Circuit breakers that are not closed",
    "Answered from the cache",
    "Put back",
    "Failed share, by stage",
}


@dataclass
class Observed:
    """What is left of the run."""

    prometheus: str
    collector: Collector
    report: dict[str, Any]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Prometheus' answer, as series."""
        query = urllib.parse.urlencode({"query": expression})
        found: list[dict[str, Any]] = self.get(f"/api/v1/query?{query}")["result"]
        return found

    def get(self, path: str) -> dict[str, Any]:
        """The data of Prometheus' answer."""
        with urllib.request.urlopen(self.prometheus + path, timeout=10) as answer:  # noqa: S310 - our own
            data: dict[str, Any] = json.load(answer)["data"]
        return data


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _start(stack: ExitStack, log: Path, argv: list[str], environment: dict[str, str]) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment, stdout=output, stderr=output, cwd=log.parent)
    stack.callback(process.wait)
    stack.callback(process.terminate)


@pytest.fixture(scope="module")
def observed(valkey_url: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A run of the calculator to production by two workers, scraped every second, and traced."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        assert not os.environ.get("CI"), "CI must have prometheus"
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("observed")
    repository = folder / "calculator"
    shutil.copytree(ROOT / "examples" / "calculator", repository)
    (folder / "targets.toml").write_text(
        "".join(
            f'[environments.{name}]\ndeployer = "local"\npath = "{folder / "releases"}"\n'
            for name in ("staging", "production")
        )
    )
    figures, port = _port(), _port()
    environment = {
        **os.environ,
        "TTA_BROKER_URL": valkey_url,
        "TTA_KEY_PREFIX": "observed:",
        "TTA_STATE_DIR": str(folder / "state"),
        "TTA_CACHE_DIR": str(folder / "cache"),
        "TTA_TARGETS_FILE": str(folder / "targets.toml"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    shutil.copy(ROOT / "deploy" / "prometheus" / "rules.yml", folder)
    (folder / "prometheus.yml").write_text(
        "{global: {scrape_interval: 1s, evaluation_interval: 1s}, rule_files: [rules.yml], scrape_configs:"
        f" [{{job_name: tta, static_configs: [{{targets: ['127.0.0.1:{figures}']}}]}}]}}"
    )
    with ExitStack() as stack:
        for number in range(2):
            own = {**environment, "TTA_STATE_DIR": str(folder / f"state-{number}")}
            _start(stack, folder / f"worker-{number}.log", [*TTA, "worker", "all"], own)
        _start(stack, folder / "metrics.log", [*TTA, "metrics", f"--port={figures}"], environment)
        argv = [prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        _start(stack, folder / "prometheus.log", [*argv, f"--web.listen-address=127.0.0.1:{port}"], environment)
        submit = [*TTA, "run", str(repository / "specs" / "calculator.md"), "--repo", str(repository), "--async"]
        submit += ["--target", "production", "--output", str(folder / "run")]
        ended = subprocess.run(submit, env=environment, capture_output=True, text=True, check=False, timeout=400)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        time.sleep(3)  # two more scrapes, and the last spans
        report = json.loads((folder / "run" / "report.json").read_text())
        yield Observed(f"http://127.0.0.1:{port}", collector, report)


def test_one_trace_over_producer_and_workers(observed: Observed) -> None:
    """The run is one trace, from its submission to its deployments, with the big steps of each task."""
    spans = list(observed.collector.spans)
    assert len({span.trace_id for span in spans}) == 1
    known = {span.span_id: span for span in spans}
    (first,) = (span for span in spans if not span.parent_span_id)
    assert first.name == "run calculator"
    assert all(span.parent_span_id in known for span in spans if span is not first)
    tasks = {span.name: span for span in spans if span.parent_span_id == first.span_id}
    assert set(tasks) == {task["label"] for task in observed.report["timeline"]}
    facts = {name: {fact.key: fact.value for fact in span.attributes} for name, span in tasks.items()}
    assert {each["tta.status"].string_value for each in facts.values()} == {"completed"}
    assert all(0 <= each["tta.waited_s"].double_value < 300 for each in facts.values())
    inside = {known[span.parent_span_id].name + "/" + span.name for span in spans if span.parent_span_id in known}
    assert inside >= {
        "test/environment",
        "test/suite",
        "generate calculator.parser/generation",
        "generate calculator.parser/acceptance",
        "refactor/refactoring",
        "collect/gates",
        "deploy to staging/build",
        "deploy to production/deployment",
    }


def test_each_panel_shows_something(observed: Observed) -> None:
    """Prometheus has an answer to every query of the dashboard but those about what this run did not do."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "fleet.json").read_text(encoding="utf-8"))
    asked = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    empty = {(title, expression) for title, expression in asked if not observed.ask(expression)}
    assert {title for title, _ in empty} <= EMPTY_HERE, empty
    assert len(asked) - len(empty) > 20


def test_nobody_is_alarmed(observed: Observed) -> None:
    """Alerts are loaded and evaluated, and none is firing or pending after a run that went well."""
    (group,) = observed.get("/api/v1/rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert [rule["name"] for rule in group["rules"] if rule["state"] != "inactive"] == []
