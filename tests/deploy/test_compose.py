"""docker-compose.yml and the images, as far as they can be judged without an engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tta_tasks.queues import NAMES


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def test_compose_file_is_of_the_schema(root: Path, checked: Callable[..., object]) -> None:
    """The Compose specification's own schema accepts the file."""
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", root / "docker-compose.yml")


def test_dockerfile_is_clean(root: Path, checked: Callable[..., object]) -> None:
    """Hadolint finds nothing."""
    checked("hadolint", root / "deploy" / "Dockerfile")


def test_each_queue_has_a_worker_that_proves_its_work(compose: dict[str, Any]) -> None:
    """One service a queue, which is healthy when tasks of its queue are done, and has time to end."""
    workers = {name: service for name, service in compose["services"].items() if name.startswith("worker-")}
    assert set(workers) == {f"worker-{queue}" for queue in NAMES}
    for queue in NAMES:
        service = workers[f"worker-{queue}"]
        assert service["command"] == ["worker", queue]
        assert service["healthcheck"]["test"] == ["CMD", "tta", "health", queue, "--here"]
        assert service["stop_grace_period"] == "45s"
        assert "container_name" not in service, "it could not be scaled"


def test_only_consoles_are_published_and_on_the_loopback_only(compose: dict[str, Any]) -> None:
    """Neither broker nor figures nor workers are reachable from outside."""
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"flower", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_no_secret_has_a_default(root: Path, compose: dict[str, Any]) -> None:
    """Every password comes from the environment, none is written down, and .env.example names each of them."""
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    example = (root / ".env.example").read_text(encoding="utf-8")
    secrets = set(re.findall(r"\$\{(\w*_(?:PASSWORD|KEY)\b)", text))
    assert secrets >= {"TTA_REDIS_PASSWORD", "TTA_FLOWER_PASSWORD", "TTA_GRAFANA_PASSWORD", "TTA_RABBITMQ_PASSWORD"}
    assert not re.findall(r"\$\{\w*_(?:PASSWORD|KEY):?-[^}]", text)
    assert not re.findall(r"^\w*_(?:PASSWORD|KEY)=.+", example, re.MULTILINE)
    assert all(name in example for name in secrets)
    assert "noeviction" in compose["configs"]["valkey"]["content"]
    assert "appendonly yes" in compose["configs"]["valkey"]["content"]


def test_own_containers_have_no_privileges(compose: dict[str, Any]) -> None:
    """What we build runs without capabilities, on a read-only file system."""
    own = [service for service in compose["services"].values() if service["image"].startswith("tta-tasks/")]
    assert len(own) == len(NAMES) + 2
    for service in own:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_are_not_root(root: Path) -> None:
    """Each target of the Dockerfile that is run ends as an ordinary user, and no syntax line fetches a frontend."""
    text = (root / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert "# syntax=" not in text
    parts = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    stages = {part.split("\n", 1)[0].rpartition(" AS ")[2]: part for part in parts}
    for target in ("worker", "console"):
        assert "USER 10001:10001" in stages[target]
    assert stages["openhands"].startswith("worker AS"), "it takes its user from there"
