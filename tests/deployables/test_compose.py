"""docker-compose.yml and the images, as far as they can be judged without an engine."""

from __future__ import annotations

import os
import re
import subprocess
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


def test_what_is_deployed_shares_no_volume_with_what_runs_tests(compose: dict[str, Any]) -> None:
    """Workers of collection, deployment and agents have a cache each; the releases are the deployment worker's."""
    mounted: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source, _, place = volume.partition(":")
            if not place.endswith(":ro"):
                mounted.setdefault(source, set()).add(name)
    assert mounted["cache"] == {"worker-testing", "worker-refactoring"}
    for volume, owner in {
        "agents": "worker-openhands",
        "collection": "worker-collection",
        "deployment": "worker-deployment",
        "releases": "worker-deployment",
    }.items():
        assert mounted[volume] == {owner}
    for queue in NAMES:
        places = [volume.split(":")[1] for volume in compose["services"][f"worker-{queue}"]["volumes"]]
        assert places.count("/var/cache/tta") == 1
    assert {source for source in mounted if not source.startswith((".", "$"))} == set(compose["volumes"])


def test_loopback_overlay_has_the_same_workers(root: Path, compose: dict[str, Any]) -> None:
    """Every worker of the Compose file is on the loopback where the file is verified."""

    class Loader(yaml.SafeLoader):
        """Knows Compose's own tags."""

    Loader.add_constructor("!reset", lambda *_: None)
    text = (root / "deploy" / "loopback.yml").read_text(encoding="utf-8")
    overlay: dict[str, Any] = yaml.load(text, Loader)  # noqa: S506 - a safe loader, with one tag more
    workers = {name for name in compose["services"] if name.startswith("worker-")}
    assert {name for name in overlay["services"] if name.startswith("worker-")} == workers


def test_only_consoles_are_published_and_on_the_loopback_only(compose: dict[str, Any]) -> None:
    """Neither broker nor figures nor workers are reachable from outside."""
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"flower", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_secrets_are_files_and_have_no_default(root: Path, compose: dict[str, Any], tmp_path: Path) -> None:
    """No password is in the file or in an environment; each is a file that deploy/make-secrets.sh makes, and keeps."""
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    assert not re.findall(r"^\s+\w*(?:PASSWORD|PASS|KEY|_URL): ", text, re.MULTILINE)
    for name in {secret for service in compose["services"].values() for secret in service.get("secrets", ())}:
        assert compose["secrets"][name]["file"] == f"${{TTA_SECRETS:-./.secrets}}/{name}"
    environment = {**os.environ, "TTA_SECRETS": str(tmp_path / "secrets")}
    made = [_made(root, environment), _made(root, environment)]
    assert made[0] == made[1], "what is there is left as it is"
    assert set(made[0]) == set(compose["secrets"])
    passwords = [value for name, value in made[0].items() if name.endswith("_password")]
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) == 48 for password in passwords)
    assert made[0]["broker_url"] == made[0]["redis_url"] == f"redis://:{made[0]['redis_password']}@valkey:6379/0"
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def _made(root: Path, environment: dict[str, str]) -> dict[str, str]:
    subprocess.run([root / "deploy" / "make-secrets.sh"], env=environment, check=True, capture_output=True)
    return {file.name: file.read_text(encoding="utf-8") for file in Path(environment["TTA_SECRETS"]).iterdir()}


def test_broker_keeps_what_it_has_accepted(root: Path, compose: dict[str, Any]) -> None:
    """It writes a log, forgets nothing for want of memory, and reads its password from its secret."""
    assert "deploy/redis/valkey.conf" in str(compose["services"]["valkey"]["volumes"])
    configuration = (root / "deploy" / "redis" / "valkey.conf").read_text(encoding="utf-8")
    assert "maxmemory-policy noeviction" in configuration
    assert "appendonly yes" in configuration
    assert "/run/secrets/redis_password" in str(compose["services"]["valkey"]["entrypoint"])


def test_broker_does_not_start_without_its_configuration(compose: dict[str, Any], tmp_path: Path) -> None:
    """One that cannot read it, as in a clone made under a strict umask, would keep nothing and tell nobody."""
    shell, option, script, *_ = compose["services"]["valkey"]["entrypoint"]
    script = script.replace("$$", "$").replace("exec valkey-server", "echo starts")
    for folder, here in (("/tmp/", "made/"), ("/etc/", ""), ("/run/secrets/", "")):  # noqa: S108
        script = script.replace(f" {folder}", f" ./{here}")
    (tmp_path / "redis_password").write_text("secret", encoding="utf-8")
    (tmp_path / "made").mkdir()
    without = subprocess.run([shell, option, script], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert without.returncode != 0
    assert "starts" not in without.stdout
    (tmp_path / "valkey.conf").write_text("appendonly yes\n", encoding="utf-8")
    with_it = subprocess.run([shell, option, script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "starts" in with_it.stdout
    assert (tmp_path / "made" / "valkey.conf").read_text(encoding="utf-8") == "appendonly yes\nrequirepass secret\n"


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
