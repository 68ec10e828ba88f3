"""Releases in a cluster by the real ``kubectl``; what answers it is a stand-in (cluster.py), not Kubernetes.

Skipped where there is no ``kubectl``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deployers.cluster import APPS, Cluster, running
from tests.deployers.shop import SHOP, digest, until
from tta_tasks.errors import DeploymentFailed
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.deployers.kubernetes import KubernetesDeployer
from workers.deployers.release_store import ReleaseStore
from workers.sandbox import PYTHON, detect_sandbox

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")

MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {environment: "${TTA_ENVIRONMENT}"}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - {name: shop, image: "${TTA_IMAGE}"}
"""


class Place:
    """An environment of a cluster."""

    def __init__(self, folder: Path, cluster: Cluster, url: str) -> None:
        self.cluster, self.url = cluster, url
        self.store = ReleaseStore(folder / "srv" / "shop" / "production")
        self.manifests = folder / "shop.yaml"
        self.manifests.write_text(MANIFESTS)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "users": [{"name": "me", "user": {}}],
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        self.table: dict[str, object] = {
            "path": str(folder / "srv"),
            "manifests": str(self.manifests),
            "kubeconfig": str(folder / "kubeconfig"),
            "context": "here",
            "workloads": ["deployment/shop"],
            "image": {"name": "shop", "build": False},
            "rollout_s": 2,
        }

    def request(self, version: str, *, token: float = 0.0, **options: object) -> ReleaseRequest:
        """What asks for a version, with options of the target."""
        return ReleaseRequest(
            component=SHOP,
            environment="production",
            digest=digest(version),
            artifact=None,
            sandbox=detect_sandbox(),
            target={**self.table, **options},
            token=token,
        )

    def deploy(self, version: str, *, token: float = 0.0, **options: object) -> Release:
        """Deploy a version."""
        return KubernetesDeployer().release(self.request(version, token=token, **options))

    def events(self) -> list[str]:
        """What the history says happened."""
        return [entry.what for entry in self.store.history()]

    def images(self, *versions: str) -> list[str]:
        """The images of versions."""
        return [f"shop:{digest(version)}" for version in versions]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty cluster."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where kubectl keeps what it has discovered
    cluster = Cluster()
    with running(cluster) as url:
        yield Place(tmp_path, cluster, url)


def test_a_release_is_applied_waited_for_and_unchanged_the_second_time(place: Place) -> None:
    """The cluster is told of the release; again, nothing is applied; promotion is told that it holds."""
    first = place.deploy("one")
    assert (first.action, first.location) == ("released", "here/default")
    assert [check.name for check in first.checks] == ["apply --dry-run", "rollout deployment/shop"]
    deployment = place.cluster.deployments["shop"]
    assert deployment["metadata"]["annotations"]["tta-tasks/release"] == digest("one")
    assert deployment["metadata"]["labels"]["environment"] == "production"
    assert place.deploy("one").action == "unchanged"
    assert place.cluster.applied == place.images("one")
    assert all(check.ok for check in KubernetesDeployer().check(place.request("one")))
    assert not all(check.ok for check in KubernetesDeployer().check(place.request("two")))


def test_a_rollout_that_does_not_come_to_its_end_is_taken_back(place: Place) -> None:
    """What was applied before is applied again, and waited for."""
    place.deploy("one")
    place.cluster.bad.add(digest("two"))
    failed = place.deploy("two")
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert "0 of 2 updated replicas are available" in failed.checks[-1].detail
    assert place.cluster.applied == place.images("one", "two", "one")
    assert place.cluster.deployments["shop"]["metadata"]["annotations"]["tta-tasks/release"] == digest("one")
    assert place.events()[-2:] == ["switching", "rolled_back"]


@pytest.mark.slow
def test_a_failed_smoke_check_is_taken_back(place: Place) -> None:
    """Like a rollout that fails."""
    place.deploy("one")
    ask = "import sys, urllib.request; sys.exit(sys.argv[2] in urllib.request.urlopen(sys.argv[1]).read().decode())"
    asked = f"{place.url}{APPS}/namespaces/default/deployments/shop"
    place.table["smoke"] = [str(PYTHON), "-c", ask, asked, f"shop:{digest('two')}"]
    failed = place.deploy("two")
    assert (failed.action, failed.checks[-1].name) == ("rolled_back", "smoke")
    assert place.cluster.applied == place.images("one", "two", "one")


@pytest.mark.slow
def test_a_release_that_dies_while_it_is_watched_is_taken_back(place: Place) -> None:
    """Pods that are no longer ready are noticed."""
    place.deploy("one")
    with ThreadPoolExecutor(1) as pool:
        deployment = pool.submit(place.deploy, "two", watch_s=60)
        until(lambda: place.events()[-1] == "switching" and len(place.cluster.applied) == 2)
        until(lambda: "tta-tasks/token" in place.cluster.deployments["shop"]["metadata"]["annotations"])
        place.cluster.sicken(digest("two"))
        failed = deployment.result()
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert place.cluster.applied == place.images("one", "two", "one")


@pytest.mark.slow
def test_without_a_previous_release_its_pods_are_ended(place: Place) -> None:
    """Scaled to none: nothing else that the manifests brought is deleted."""
    place.cluster.bad.add(digest("one"))
    assert place.deploy("one").previous is None
    assert place.cluster.deployments["shop"]["spec"]["replicas"] == 0


@pytest.mark.slow
def test_what_the_cluster_refuses_is_never_applied(place: Place) -> None:
    """The manifests are tried first."""
    place.deploy("one")
    place.manifests.write_text(MANIFESTS.replace("kind: Deployment", "kind: Nothing"))
    failed = place.deploy("two")
    assert failed.action == "rolled_back"
    assert [(check.name, check.ok) for check in failed.checks] == [("apply --dry-run", False)]
    assert place.cluster.applied == place.images("one")


@pytest.mark.slow
def test_an_older_deployment_from_another_worker_is_refused(place: Place, tmp_path: Path) -> None:
    """The fence is in the cluster, too: another worker has another disk."""
    place.deploy("one", token=200.0)
    with pytest.raises(DeploymentFailed, match="begun later has come before"):
        place.deploy("two", token=100.0, path=str(tmp_path / "elsewhere"))
    assert place.cluster.applied == place.images("one")


@pytest.mark.slow
def test_going_back_applies_what_was_applied_then(place: Place) -> None:
    """The manifests of that release, whatever they are now."""
    place.deploy("one")
    place.manifests.write_text(MANIFESTS.replace("replicas: 2", "replicas: 5"))
    place.deploy("two")
    (back,) = KubernetesDeployer().releases("shop", "production", place.table)
    assert back == digest("one")
    assert place.deploy("one").action == "released"
    assert place.cluster.deployments["shop"]["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workloads": []}, "workloads: "),
        ({"workloads": ["pod/shop"]}, r"workloads\.0: "),
        ({"manifests": "/nowhere.yaml"}, "manifests cannot be read"),
        ({"context": "there"}, "See that the worker reaches the cluster"),
    ],
)
def test_a_target_that_does_not_hold_is_refused(place: Place, options: dict[str, object], said: str) -> None:
    """Each mistake is named."""
    place.table |= options
    with pytest.raises(DeploymentFailed, match=said):
        place.deploy("one")


def test_a_name_that_the_manifests_misspell_is_said(place: Place) -> None:
    """Nothing is applied with a hole in it."""
    place.manifests.write_text(MANIFESTS.replace("TTA_IMAGE", "TTA_IMGE"))
    with pytest.raises(DeploymentFailed, match="'TTA_IMGE'"):
        place.deploy("one")


def test_a_missing_program_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeploymentFailed, match="kubectl is not installed on this deployment worker"):
        place.deploy("one")


def test_it_keeps_the_contract() -> None:
    """The deployer is a Deployer."""
    assert isinstance(KubernetesDeployer(), Deployer)
