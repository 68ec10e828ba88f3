"""The ``kubernetes`` deployer: applies manifests with ``kubectl``, and waits until the cluster has replaced the pods.

The operator's manifests define a release; ``${TTA_IMAGE}``, ``${TTA_RELEASE}``, ``${TTA_COMPONENT}`` and
``${TTA_ENVIRONMENT}`` in them are filled in. The filled-in manifests are kept, and applied again by a rollback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import ReleaseRequest
from workers.deployers.checks import Health, RemoteRelease, passed, watch
from workers.deployers.commands import Tool
from workers.deployers.image import Image, provide, prune
from workers.deployers.release_store import ReleaseStore
from workers.deployers.rollout import Checks, Platform, RolloutDeployer, RolloutTarget
from workers.deployers.targets import absolute

#: Annotations of a workload: its release, and the fencing token of the deployment that brought it. Every worker of the
#: cluster reads them.
RELEASE: Final = "tta-tasks/release"
TOKEN: Final = "tta-tasks/token"  # noqa: S105 - the fencing token is no secret
_MANIFEST = "manifest.yaml"


Workload = Annotated[str, StringConstraints(pattern=r"^(deployment|statefulset)/[a-z0-9.-]+$")]


class KubernetesTarget(RolloutTarget):
    """The table of an environment with ``deployer = "kubernetes"``."""

    #: The manifests, in one file.
    manifests: Annotated[Path, AfterValidator(absolute)]
    #: The workloads that are waited for, and annotated with their release: ``deployment/shop``.
    workloads: tuple[Workload, ...] = Field(min_length=1)
    image: Image
    #: The namespace, and the context of the kubeconfig; by default those of the worker's own kubectl.
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")] = "default"
    context: str = ""
    kubeconfig: Annotated[Path, AfterValidator(absolute)] | None = None
    #: Seconds for the pods to be replaced.
    rollout_s: int = Field(default=300, ge=1)
    #: The health check, from the worker's host, when the pods are ready.
    health: Health | None = None
    #: A command that must then end with status 0; in the sandbox, with network access.
    smoke: tuple[str, ...] = ()
    #: Seconds after that in which a release that becomes unhealthy is rolled back.
    watch_s: float = Field(default=0.0, ge=0)


class KubernetesDeployer(RolloutDeployer[KubernetesTarget]):
    """Manifests, applied and waited for."""

    name = "kubernetes"
    target_type = KubernetesTarget

    def platform(
        self, request: ReleaseRequest, target: KubernetesTarget, store: ReleaseStore
    ) -> Platform[KubernetesTarget]:
        """Return the steps."""
        return _KubernetesPlatform(request, target, store)


class _KubernetesPlatform(Platform[KubernetesTarget]):
    """The workloads of one environment of one component."""

    docker = Tool(("docker",))

    @property
    def location(self) -> str:
        return f"{self.target.context or 'kubernetes'}/{self.target.namespace}"

    def fence(self) -> None:
        """Refuse a deployment that is older than the newest of any worker.

        Raises:
            DeploymentFailed: It is, or the cluster does not answer.
        """
        for workload in self.target.workloads:
            seen = float(self._annotations(workload).get(TOKEN, 0.0))
            if seen > self.request.token:
                raise DeploymentFailed(
                    f"A deployment of {workload} that was begun later has come before this one, which is given up.",
                    "Nothing has changed; deploy again if it is this release that should be in use.",
                )

    def install(self, digest: str) -> None:
        self.request.progress(f"building the image for {self.request.environment}")
        if self.target.image.build:
            provide(self.target.image, digest, self.request.artifact, self.docker)
        manifest = self._fill_in(digest)
        (self.store.clear(digest) / _MANIFEST).write_text(manifest, encoding="utf-8")
        self.store.mark_complete(digest, {"image": self.target.image.reference(digest)})

    def prepare(self, digest: str) -> Checks:
        result = self._kubectl.run("apply", "--dry-run=server", "-f", self._manifest(digest))
        return (Check(name="apply --dry-run", ok=result.ok, detail="" if result.ok else result.output),)

    def activate(self, digest: str | None, previous: str | None) -> None:  # noqa: ARG002
        if digest is None:  # scaled down, not deleted: the manifests may hold volumes
            self._kubectl.require("scale", "--replicas=0", *self.target.workloads)
            return
        self.request.progress(f"applying the manifests for {self.request.environment}")
        self._kubectl.require("apply", "-f", self._manifest(digest), hint="See the cluster, and the manifests.")
        annotations = (f"{RELEASE}={digest}", f"{TOKEN}={self.request.token!r}")
        self._kubectl.require("annotate", "--overwrite", *self.target.workloads, *annotations)

    def verify(self, digest: str) -> Checks:
        checks = self._ready(self.target.rollout_s)
        if passed(checks):
            checks = (*checks, *self._check(digest))
        if not self.target.watch_s or not passed(checks):
            return checks
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        ask = self._remote(digest).check_health
        return (*checks, watch(self.target.watch_s, self.target.health, ask, self._unready))

    def inspect(self, digest: str) -> Checks:
        for workload in self.target.workloads:
            found = self._annotations(workload).get(RELEASE, "none")
            if found != digest:
                return (Check(name=workload, ok=False, detail=f"is of release {found[:12]}"),)
        ready = self._ready(self.target.rollout_s)
        return (*ready, *(self._check(digest) if passed(ready) else ()))

    def clean_up(self) -> None:
        needed = {folder.name for folder in self.store.base.parent.glob("*/releases/*")}
        prune(self.target.image, needed, self.docker)

    def _check(self, digest: str) -> Checks:
        remote = self._remote(digest)
        health = (remote.wait_until_healthy(self.target.health),) if self.target.health else ()
        return (*health, *(remote.smoke(self.target.smoke) if passed(health) else ()))

    def _ready(self, within_s: int) -> Checks:
        """Check whether all pods are replaced, and ready."""
        return tuple(self._rolled(workload, within_s) for workload in self.target.workloads)

    def _rolled(self, workload: str, within_s: int) -> Check:
        result = self._kubectl.run("rollout", "status", workload, f"--timeout={within_s}s", timeout_s=within_s + 30)
        waited = result.stdout.strip().rpartition("\n")[2]
        return Check(
            name=f"rollout {workload}", ok=result.ok, detail="" if result.ok else f"{waited} {result.output}".strip()
        )

    def _unready(self) -> str:
        return "; ".join(f"{check.name}: {check.detail}" for check in self._ready(1) if not check.ok)

    def _annotations(self, workload: str) -> Mapping[str, str]:
        found = self._kubectl.require(
            *("get", workload, "--ignore-not-found", "--output", "json"),
            hint="See that the worker reaches the cluster, and may read and change the workloads.",
        )
        known: dict[str, Any] = json.loads(found) if found.strip() else {}
        return dict(known.get("metadata", {}).get("annotations", {}))

    def _fill_in(self, digest: str) -> str:
        request = self.request
        try:
            return Template(self.target.manifests.read_text(encoding="utf-8")).substitute(
                TTA_IMAGE=self.target.image.reference(digest),
                TTA_RELEASE=digest,
                TTA_COMPONENT=request.component.name,
                TTA_ENVIRONMENT=request.environment,
            )
        except (OSError, UnicodeDecodeError) as error:
            raise DeploymentFailed(
                f"The manifests cannot be read: {error}.", "Mend `manifests` in the target."
            ) from error
        except (KeyError, ValueError) as error:
            raise DeploymentFailed(
                f"The manifests name an unknown variable: {error}.", "Write $$ for a dollar sign that is meant as one."
            ) from error

    def _manifest(self, digest: str) -> str:
        return str(self.store.folder(digest) / _MANIFEST)

    def _remote(self, digest: str) -> RemoteRelease:
        return RemoteRelease(self.store.folder(digest), self.request.sandbox)

    @property
    def _kubectl(self) -> Tool:
        target = self.target
        words = ["kubectl", "--namespace", target.namespace, *(["--context", target.context] if target.context else [])]
        return Tool((*words, *(["--kubeconfig", str(target.kubeconfig)] if target.kubeconfig else [])))
