"""The Helm chart, rendered and judged without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tta_tasks.queues import NAMES

KUBERNETES = "1.31.0"
Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def chart(root: Path) -> Path:
    return root / "deploy" / "helm" / "tta"


@pytest.fixture(scope="module")
def render(chart: Path, needed: Callable[[str], ModuleType]) -> Callable[..., Objects]:
    """The chart's objects with some values."""
    helm = needed("helm_python")

    def rendered(**values: Any) -> Objects:  # noqa: ANN401 - a chart's values
        texts = helm.Chart.load(chart).render(values, name="fleet", namespace="tta")
        return [
            found
            for path, text in texts.items()
            if path.endswith(".yaml")
            for found in yaml.safe_load_all(text)
            if found is not None
        ]

    return rendered


VALUES: tuple[dict[str, Any], ...] = (
    {},
    {"keda": {"enabled": False}, "networkPolicy": {"enabled": False}, "flower": {"enabled": False}},
    {
        "image": {"registry": "registry.example", "tag": "7", "pullSecrets": [{"name": "pull"}]},
        "settings": {"TTA_TASK_TIMEOUT_S": 7200, "TTA_ARTIFACT_URL": "s3://bucket/x: y"},
        "agentsSecretName": "agents",
        "tlsSecretName": "certificates",
        "releasesClaim": "releases",
        "queues": {"testing": {"slots": 4, "nodeSelector": {"pool": "big"}, "tolerations": [{"operator": "Exists"}]}},
    },
)


def test_chart_lints(chart: Path, needed: Callable[[str], ModuleType]) -> None:
    """Helm's linter has no error and no warning."""
    report = needed("helm_python").lint(chart, kube_version=f"v{KUBERNETES}")
    assert report["errors"] == []
    assert [found for found in report["messages"] if found["severity"] > 1] == []


@pytest.mark.parametrize("values", VALUES)
def test_objects_are_of_their_schemas(
    render: Callable[..., Objects], needed: Callable[[str], ModuleType], values: dict[str, Any]
) -> None:
    """Kubernetes' schemas take every object strictly; KEDA's models take its own."""
    validate = needed("kubernetes_validate").validate
    scaled = needed("cloudcoil.models.keda.v1alpha1").ScaledObject
    for found in render(**values):
        if found["apiVersion"].startswith("keda.sh/"):
            scaled.model_validate(found)
        else:
            validate(found, KUBERNETES, strict=True)


def test_each_queue_has_a_fleet_that_scales_on_its_own_work(render: Callable[..., Objects]) -> None:
    """A Deployment, a ScaledObject and a PodDisruptionBudget a queue; the scaler counts what waits and what runs."""
    objects = render()
    for queue in NAMES:
        name = f"fleet-worker-{queue}"
        kinds = {found["kind"]: found for found in objects if found["metadata"]["name"] == name}
        assert set(kinds) == {"Deployment", "ScaledObject", "PodDisruptionBudget"}
        query = kinds["ScaledObject"]["spec"]["triggers"][0]["metadata"]["query"]
        assert f'tta_queue_waiting{{queue="{queue}"}}' in query
        assert f'tta_queue_running{{queue="{queue}"}}' in query
        assert "replicas" not in kinds["Deployment"]["spec"], "the scaler's"
        worker = kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        assert worker["args"] == ["worker", queue]
        assert worker["livenessProbe"]["exec"]["command"] == ["tta", "health", queue, "--here"]


def test_pods_have_no_privileges(render: Callable[..., Objects]) -> None:
    """No container is root, writes its file system, gains privileges, or has a token of the cluster."""
    pods = [found["spec"]["template"]["spec"] for found in render() if found["kind"] == "Deployment"]
    assert len(pods) == len(NAMES) + 2
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_nobody_reaches_a_worker(render: Callable[..., Objects]) -> None:
    """Each pod is under a policy; workers and Flower let nobody in unless it is said."""
    policies = {found["metadata"]["name"]: found["spec"] for found in render() if found["kind"] == "NetworkPolicy"}
    assert set(policies) == {"fleet-workers", "fleet-flower", "fleet-metrics"}
    assert "ingress" not in policies["fleet-workers"]
    assert "ingress" not in policies["fleet-flower"]
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())


#: Addresses of services, hosts, clusters and clouds, as IPv4, IPv6, and IPv4 behind NAT64; and the world's.
PRIVATE = (
    *("10.96.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("100.127.255.254", "127.0.0.1", "fd00:ec2::254", "fc00::1", "fdff::1", "fe80::1", "64:ff9b::10.96.0.1"),
    *("64:ff9b::169.254.169.254", "64:ff9b::172.20.0.1", "64:ff9b::192.168.0.1", "64:ff9b::100.100.0.1"),
)
PUBLIC = ("151.101.0.223", "172.32.0.1", "100.128.0.1", "11.0.0.1", "2a04:4e42::223", "64:ff9b::151.101.0.223")


def _reaches(objects: Objects, component: str, address: str, port: int) -> bool:
    """Whether the policies let a pod reach an address outside of what peers name by label."""
    labels = {"app.kubernetes.io/name": "tta", "app.kubernetes.io/instance": "fleet"}
    labels["app.kubernetes.io/component"] = component
    for policy in (found["spec"] for found in objects if found["kind"] == "NetworkPolicy"):
        chosen = policy["podSelector"]
        hit = all(labels[name] == value for name, value in chosen["matchLabels"].items())
        hit &= all(labels[each["key"]] not in each["values"] for each in chosen.get("matchExpressions", ()))
        for rule in policy["egress"] if hit else ():
            at_port = any(each["port"] == port for each in rule.get("ports", [{"port": port}]))
            if at_port and ("to" not in rule or any(_within(to, address) for to in rule["to"])):
                return True
    return False


def _within(peer: dict[str, Any], address: str) -> bool:
    block, wanted = peer.get("ipBlock"), ip_address(address)
    if block is None or wanted.version != ip_network(block["cidr"]).version:
        return False
    excepted = any(wanted in ip_network(each) for each in block.get("except", ()))
    return wanted in ip_network(block["cidr"]) and not excepted


def test_workers_reach_no_private_address(render: Callable[..., Objects]) -> None:
    """Public addresses only, for packages and models: no service of the cluster, no API server, no metadata."""
    objects = render()
    for queue in NAMES:
        for port in (80, 443):
            assert [each for each in PRIVATE if _reaches(objects, f"worker-{queue}", each, port)] == []
            assert [each for each in PUBLIC if not _reaches(objects, f"worker-{queue}", each, port)] == []
        assert not _reaches(objects, f"worker-{queue}", "10.96.0.1", 6443)
        assert not _reaches(objects, f"worker-{queue}", PUBLIC[0], 22)
        assert _reaches(objects, f"worker-{queue}", "10.96.0.9", 6379), "wherever the broker is"


def test_workers_reach_what_values_list(render: Callable[..., Objects], needed: Callable[[str], ModuleType]) -> None:
    """An index of one's own for all, the cluster's API for the deployment worker alone, and the broker where it is."""
    to_index = {"to": [{"ipBlock": {"cidr": "10.20.0.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    to_api = {"to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    objects = render(
        networkPolicy={
            "workersTo": [to_index],
            "deploymentTo": [to_api],
            "brokerTo": [{"ipBlock": {"cidr": "10.30.0.0/24"}}],
            "dnsTo": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "exceptCidrs": ["203.0.113.10/32", "2001:db8::10/128"],
        }
    )
    for found in objects:
        if found["kind"] == "NetworkPolicy":
            needed("kubernetes_validate").validate(found, KUBERNETES, strict=True)
    for queue in NAMES:
        worker = f"worker-{queue}"
        assert _reaches(objects, worker, "10.20.0.7", 443)
        assert not _reaches(objects, worker, "10.20.0.8", 443)
        assert _reaches(objects, worker, "10.96.0.1", 443) == (queue == "deployment")
        assert _reaches(objects, worker, "10.30.0.5", 6379)
        assert not _reaches(objects, worker, "10.31.0.5", 6379)
        assert not _reaches(objects, worker, "10.31.0.5", 53)
        assert not _reaches(objects, worker, "203.0.113.10", 443)
        assert not _reaches(objects, worker, "2001:db8::10", 443)


def test_each_worker_has_a_cache_of_its_own(render: Callable[..., Objects]) -> None:
    """No two workers share a volume that both may write; releases are the deployment worker's."""
    for queue in NAMES:
        (pod,) = (
            found["spec"]["template"]["spec"]
            for found in render(releasesClaim="releases")
            if found["kind"] == "Deployment" and found["metadata"]["name"] == f"fleet-worker-{queue}"
        )
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "emptyDir" in volumes["cache"]
        assert {name for name, each in volumes.items() if "persistentVolumeClaim" in each or "hostPath" in each} == (
            {"releases"} if queue == "deployment" else set()
        )


def test_no_secret_is_in_the_chart(render: Callable[..., Objects]) -> None:
    """The chart makes no Secret; it names those that somebody else made."""
    objects = render(agentsSecretName="agents")
    assert not [found for found in objects if found["kind"] == "Secret"]
    pods = [found["spec"]["template"]["spec"] for found in objects if found["kind"] == "Deployment"]
    named = {volume["secret"]["secretName"] for pod in pods for volume in pod["volumes"] if "secret" in volume}
    assert named == {"tta-settings", "tta-flower", "agents"}


def test_secrets_are_files_of_those_who_need_them(render: Callable[..., Objects]) -> None:
    """No secret is in an environment; each is where its variable says; the model's key is with the agents alone."""
    objects = render(
        agentsSecretName="agents", tlsSecretName="certificates", secretKeys=["TTA_BROKER_URL", "TTA_RESULT_URL"]
    )
    pods = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]
        for found in objects
        if found["kind"] == "Deployment"
    }
    for name, pod in pods.items():
        container = pod["containers"][0]
        assert "envFrom" not in container
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        files = {entry["name"]: entry["value"] for entry in container["env"] if entry["name"].endswith("_FILE")}
        secret = {key for key, file in files.items() if file.startswith("/run/secrets/")}
        assert {file.rpartition("/")[0] for key, file in files.items() if key in secret} <= mounted
        assert secret >= {"TTA_BROKER_URL_FILE", "TTA_RESULT_URL_FILE", "TTA_TLS_CA_FILE", "TTA_TLS_KEY_FILE"}
        assert ("TTA_LLM_API_KEY_FILE" in secret) == (name == "fleet-worker-openhands")
        assert ("TTA_FLOWER_PASSWORD_FILE" in secret) == (name == "fleet-flower")
