"""Releases in a Kubernetes cluster, by ``kubectl``: the cluster replaces pods, this sees that it went well.

The operator's manifests say what a release consists of; ``${TTA_IMAGE}``, ``${TTA_RELEASE}``, ``${TTA_COMPONENT}`` and
``${TTA_ENVIRONMENT}`` in them are filled in. What was applied is kept, and applied again to go back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import History, Release, ReleaseRequest
from workers.deployers.checks import Health, Reached, passed, watched
from workers.deployers.commands import Tool
from workers.deployers.image import Image, provide, prune
from workers.deployers.release_store import Site
from workers.deployers.rollout import Checks, Rollout, checked, entered
from workers.deployers.targets import Table, absolute

#: What a workload is told of its release, and of the deployment that brought it: other workers see it, too.
RELEASE: Final = "tta-tasks/release"
TOKEN: Final = "tta-tasks/token"  # noqa: S105 - of the fence
_MANIFEST = "manifest.yaml"


Workload = Annotated[str, StringConstraints(pattern=r"^(deployment|statefulset)/[a-z0-9.-]+$")]


class KubernetesTarget(Table):
    """The table of an environment with ``deployer = "kubernetes"``."""

    #: Where this worker keeps what it knows of releases, in a folder for each component and environment.
    path: Annotated[Path, AfterValidator(absolute)]
    #: The manifests, in one file.
    manifests: Annotated[Path, AfterValidator(absolute)]
    #: What is waited for, and told of its release: ``deployment/shop``.
    workloads: tuple[Workload, ...] = Field(min_length=1)
    image: Image
    #: Where; what ``kubectl`` would take otherwise is the worker's own configuration.
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")] = "default"
    context: str = ""
    kubeconfig: Annotated[Path, AfterValidator(absolute)] | None = None
    #: Seconds for the pods to be replaced.
    rollout_s: int = Field(default=300, ge=1)
    #: How to tell whether a release is well once its pods are ready, from where the worker is.
    health: Health | None = None
    #: A command that must end well then, too; in the sandbox, with network.
    smoke: tuple[str, ...] = ()
    #: Seconds after that in which a release that is no longer well is rolled back.
    watch_s: float = Field(default=0.0, ge=0)
    #: Releases kept; those in use and to return to always are.
    keep: int = Field(default=5, ge=1)

    def site(self, component: str, environment: str) -> Site:
        """What is known of an environment of a component."""
        return Site(self.path / component / environment)


class KubernetesDeployer:
    """Manifests, applied and waited for."""

    name = "kubernetes"

    def release(self, request: ReleaseRequest) -> Release:
        """Make ``request.digest`` the release in use, checked; else the previous one is, or none.

        Raises:
            DeploymentFailed: It cannot be built, the cluster refuses, or the previous release does not work either.
        """
        target = KubernetesTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        with entered(site, request.token):
            ground = _Cluster(request, target, site)
            ground.fence()
            release = Rollout(request, site, ground, target.keep).run()
            needed = {folder.name for folder in site.base.parent.glob("*/releases/*")}
            prune(target.image, needed, ground.docker)
            return release

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """See whether ``request.digest`` is in use, and works."""
        target = KubernetesTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        return checked(request.digest, site, _Cluster(request, target, site))

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Digests of the releases that can be gone back to, the one before the current first."""
        return KubernetesTarget.read(target).site(component, environment).way_back()

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:
        """The release in use, and what happened."""
        return KubernetesTarget.read(target).site(component, environment).told()


@dataclass
class _Cluster:
    """The workloads of one environment of one component."""

    request: ReleaseRequest
    target: KubernetesTarget
    site: Site

    docker = Tool(("docker",))

    @property
    def location(self) -> str:
        return f"{self.target.context or 'kubernetes'}/{self.target.namespace}"

    def fence(self) -> None:
        """See that no newer deployment was here, from whichever worker.

        Raises:
            DeploymentFailed: One was, or the cluster does not answer.
        """
        for workload in self.target.workloads:
            seen = float(self._annotations(workload).get(TOKEN, 0.0))
            if seen > self.request.token:
                raise DeploymentFailed(
                    f"A deployment of {workload} that was begun later has come before this one, which is given up.",
                    "Nothing has changed; deploy again if it is this release that should be in use.",
                )

    def make(self, digest: str) -> None:
        self.request.progress(f"building the image for {self.request.environment}")
        if self.target.image.build:
            provide(self.target.image, digest, self.request.artifact, self.docker)
        manifest = self._filled(digest)
        (self.site.clear(digest) / _MANIFEST).write_text(manifest, encoding="utf-8")
        self.site.finish(digest, {"image": self.target.image.reference(digest)})

    def before(self, digest: str) -> Checks:
        told = self._kubectl.ask("apply", "--dry-run=server", "-f", self._manifest(digest))
        return (Check(name="apply --dry-run", ok=told.ok, detail="" if told.ok else told.said),)

    def switch(self, digest: str | None, previous: str | None) -> None:  # noqa: ARG002 - what a ground is asked
        if digest is None:  # what is kept besides, volumes for one, is not ours to delete
            self._kubectl.require("scale", "--replicas=0", *self.target.workloads)
            return
        self.request.progress(f"applying the manifests for {self.request.environment}")
        self._kubectl.require("apply", "-f", self._manifest(digest), hint="See the cluster, and the manifests.")
        told = (f"{RELEASE}={digest}", f"{TOKEN}={self.request.token!r}")
        self._kubectl.require("annotate", "--overwrite", *self.target.workloads, *told)

    def after(self, digest: str) -> Checks:
        checks = self._ready(self.target.rollout_s)
        if passed(checks):
            checks = (*checks, *self._asked(digest))
        if not self.target.watch_s or not passed(checks):
            return checks
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        well = self._reached(digest).well
        return (*checks, watched(self.target.watch_s, self.target.health, well, self._unready))

    def standing(self, digest: str) -> Checks:
        return self.look(digest)

    def look(self, digest: str) -> Checks:
        for workload in self.target.workloads:
            found = self._annotations(workload).get(RELEASE, "none")
            if found != digest:
                return (Check(name=workload, ok=False, detail=f"is of release {found[:12]}"),)
        ready = self._ready(self.target.rollout_s)
        return (*ready, *(self._asked(digest) if passed(ready) else ()))

    def settle(self, digest: str | None) -> None:
        """The cluster has ended the others' pods."""

    def _asked(self, digest: str) -> Checks:
        reached = self._reached(digest)
        health = (reached.healthy(self.target.health),) if self.target.health else ()
        return (*health, *(reached.smoke(self.target.smoke) if passed(health) else ()))

    def _ready(self, within_s: int) -> Checks:
        """Whether all pods are replaced, and ready."""
        return tuple(self._rolled(workload, within_s) for workload in self.target.workloads)

    def _rolled(self, workload: str, within_s: int) -> Check:
        told = self._kubectl.ask("rollout", "status", workload, f"--timeout={within_s}s", timeout_s=within_s + 30)
        waited = told.stdout.strip().rpartition("\n")[2]
        return Check(name=f"rollout {workload}", ok=told.ok, detail="" if told.ok else f"{waited} {told.said}".strip())

    def _unready(self) -> str:
        return "; ".join(f"{check.name}: {check.detail}" for check in self._ready(1) if not check.ok)

    def _annotations(self, workload: str) -> Mapping[str, str]:
        found = self._kubectl.require(
            *("get", workload, "--ignore-not-found", "--output", "json"),
            hint="See that the worker reaches the cluster, and may read and change the workloads.",
        )
        known: dict[str, Any] = json.loads(found) if found.strip() else {}
        return dict(known.get("metadata", {}).get("annotations", {}))

    def _filled(self, digest: str) -> str:
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
                f"The manifests name what there is not: {error}.", "Write $$ for a dollar sign that is meant as one."
            ) from error

    def _manifest(self, digest: str) -> str:
        return str(self.site.folder(digest) / _MANIFEST)

    def _reached(self, digest: str) -> Reached:
        return Reached(self.site.folder(digest), self.request.sandbox)

    @property
    def _kubectl(self) -> Tool:
        target = self.target
        words = ["kubectl", "--namespace", target.namespace, *(["--context", target.context] if target.context else [])]
        return Tool((*words, *(["--kubeconfig", str(target.kubeconfig)] if target.kubeconfig else [])))
