"""``tta releases``, ``tta rollback`` and ``tta serve`` with a real deployment worker on a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.deployers.place import Place
from tests.deployers.shop import PROJECT, SHOP, VERSIONS, Wheels, asking, until
from tta_tasks.client import TaskClient
from tta_tasks.models import CollectionResult, DeploymentRequest, DeploymentResult, Stage, Status
from tta_tasks.requests import record_of
from tta_tasks.settings import settings
from tta_tasks.snapshot import pack

TTA = (str(Path(sys.executable).with_name("tta")),)
TARGETS = """\
[environments.staging]
path = "{path}"

[environments.production]
path = "{path}"
smoke = ["false"]

[environments.production.components.shop]
smoke = []
"""


class Installation:
    """A broker, a deployment worker, and who asks."""

    def __init__(self, folder: Path, client: TaskClient) -> None:
        self.folder, self.client = folder, client

    def tta(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run([*TTA, *words], cwd=self.folder, capture_output=True, text=True, check=False, timeout=120)

    def deploy(self, version: str, environment: str) -> DeploymentResult:
        """Deploy a version as the collection of a run would have it deployed."""
        tree = self.folder / uuid.uuid4().hex
        (tree / "src" / "shop").mkdir(parents=True)
        (tree / "pyproject.toml").write_text(PROJECT)
        (tree / "src" / "shop" / "__init__.py").write_text("")
        (tree / "src" / "shop" / "server.py").write_text(VERSIONS[version])
        packed = pack(tree, max_bytes=1 << 20, max_files=100)
        snapshot = self.client.store.put(packed.data)
        request = DeploymentRequest(
            snapshot=snapshot, component=SHOP, environment=environment, needs=(self._collected(snapshot),)
        )
        result = self.client.result(self.client.submit(request), timeout=120)
        assert isinstance(result, DeploymentResult)
        return result

    def _collected(self, tree: str) -> str:
        request = DeploymentRequest(snapshot=tree, component=SHOP, environment="none")
        record = record_of(request, uuid.uuid4().hex).model_copy(update={"stage": Stage.COLLECTION})
        self.client.ledger.accept([record])
        self.client.ledger.begin(record.id, record.name, "")
        self.client.ledger.finish(record, CollectionResult(status=Status.COMPLETED, tree=tree))
        return record.id


@pytest.fixture
def installation(
    tmp_path: Path, valkey: redis.Redis, valkey_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """An installation with one deployment worker."""
    assert valkey.dbsize() == 0
    targets = tmp_path / "targets.toml"
    targets.write_text(TARGETS.format(path=tmp_path / "srv"))
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    monkeypatch.setenv("TTA_TARGETS_FILE", str(targets))
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    monkeypatch.setenv("TTA_SUBMIT_FSYNC_TIMEOUT_S", "0")
    settings.cache_clear()
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen([*TTA, "worker", "deployment"], cwd=tmp_path, stdout=log, stderr=log)
    try:
        with TaskClient.connect() as client:
            yield Installation(tmp_path, client)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


@pytest.mark.slow
@pytest.mark.stack
def test_a_person_sees_the_releases_and_goes_back(installation: Installation) -> None:
    """The history tells each release and who brought it; going back takes the worker's way, and is told as well."""
    assert "Nothing was deployed yet" in installation.tta("releases").stderr
    one, two = (installation.deploy(version, "production") for version in ("one", "two"))
    assert (one.action, two.action) == ("released", "released")
    assert one.release
    assert two.release

    shown = installation.tta("releases", "production").stdout
    assert f"production shop: {two.release[:12]} is in use" in shown
    back = installation.tta("rollback", "production")
    assert back.returncode == 0, back.stderr
    assert f"production: {one.release[:12]} is in use (released)" in back.stdout

    (told,) = map(json.loads, installation.tta("releases", "--json").stdout.splitlines())
    assert told["current"] == one.release
    assert [entry["what"] for entry in told["entries"]] == ["switching", "released"] * 2 + ["switching", "returned"]
    assert all(entry["task_id"] for entry in told["entries"])

    again = installation.tta("rollback", "production")
    assert again.returncode == 2
    assert "production has no earlier good release" in again.stderr
    forward = installation.tta("rollback", "production", "--to", two.release[:8])
    assert forward.returncode == 2
    unknown = installation.tta("rollback", "staging")
    assert unknown.returncode == 2
    assert "Nothing is known of 'staging'; known are: production shop." in unknown.stderr


@pytest.mark.slow
def test_what_is_served_is_kept_by_tta_serve(
    tmp_path: Path, cache: Path, wheels: Wheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It restarts what a restart of the host has ended, reports what it cannot read once; `--stop` ends what runs."""
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    place = Place(tmp_path / "srv", wheels)
    (tmp_path / "targets.toml").write_text(f'[environments.production]\npath = "{tmp_path / "srv"}"\n')
    environment = os.environ | {"TTA_TARGETS_FILE": str(tmp_path / "targets.toml")}
    try:
        place.deploy("one")
        stopped = subprocess.run([*TTA, "serve", "--stop"], env=environment, check=True, capture_output=True, text=True)
        assert f"ending {place.store.base}" in stopped.stderr
        assert place.files.unsupervised()

        unreadable = place.store.base.parents[1] / "other" / "production" / "desired-state.json"
        unreadable.parent.mkdir(parents=True)
        unreadable.write_text("half a st")
        said = tmp_path / "serve.log"
        with said.open("w") as log:
            serving = subprocess.Popen([*TTA, "serve"], env=environment, stdout=log, stderr=log)
        until(lambda: bool(place.files.observed().backends) and not place.files.unsupervised())
        with asking(place.port) as client:
            until(lambda: client.answers["one"] > 5)
            assert place.deploy("two").action == "released"
            until(lambda: client.answers["two"] > 5)
        assert client.failures == []
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
        assert said.read_text().count(f"{unreadable} cannot be read") == 1
        assert place.files.unsupervised()
    finally:
        place.end()
