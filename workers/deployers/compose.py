"""The ``compose`` deployer: a Compose project for each release, next to each other behind one public address.

The operator's Compose file defines a release. It gets ``TTA_IMAGE``, the release's image, and ``TTA_PORT``, the port of
127.0.0.1 on which this release must be reachable; also ``TTA_RELEASE``, ``TTA_COMPONENT`` and ``TTA_ENVIRONMENT``.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import ReleaseRequest
from workers.deployers.backends import Backends, ServingConfig
from workers.deployers.checks import Health, RemoteRelease
from workers.deployers.commands import Tool
from workers.deployers.image import Image, provide, prune
from workers.deployers.release_store import ReleaseStore
from workers.deployers.rollout import Checks, Platform, RolloutDeployer, RolloutTarget
from workers.deployers.serving.states import Backend
from workers.deployers.targets import absolute

_STATES = "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"
#: Characters of containers' output shown of a release that does not come up.
MAX_LOGS = 1500


class ComposeTarget(RolloutTarget, ServingConfig):
    """The table of an environment with ``deployer = "compose"``."""

    #: The Compose file.
    file: Annotated[Path, AfterValidator(absolute)]
    image: Image
    #: The health check; ``{address}`` and ``{port}`` stand for where the release listens.
    health: Health
    #: A command that must end with status 0 before a release gets clients; in the sandbox, with network access and the
    #: same placeholders.
    smoke: tuple[str, ...] = ()
    #: Seconds after the switch in which a release that becomes unhealthy is rolled back.
    watch_s: float = Field(default=0.0, ge=0)
    #: Variables for the Compose file.
    env: Mapping[str, str] = Field(default_factory=dict)
    #: Seconds for its containers to come up, and to end when they are asked to.
    up_s: int = Field(default=120, ge=1)
    stop_s: int = Field(default=10, ge=0)


class ComposeDeployer(RolloutDeployer[ComposeTarget]):
    """Compose projects next to each other behind one public address."""

    name = "compose"
    target_type = ComposeTarget

    def platform(self, request: ReleaseRequest, target: ComposeTarget, store: ReleaseStore) -> Platform[ComposeTarget]:
        """Return the steps."""
        return _ComposePlatform(request, target, store)


class _ComposePlatform(Platform[ComposeTarget]):
    """The Compose projects of one environment of one component."""

    docker = Tool(("docker",))

    @property
    def location(self) -> str:
        return self._backends.location

    def install(self, digest: str) -> None:
        request = self.request
        request.progress(f"building the image for {request.environment}")
        self._down(digest)
        provide(self.target.image, digest, request.artifact, self.docker)
        folder = self.store.clear(digest)
        try:
            shutil.copy(self.target.file, folder / "compose.yaml")
        except OSError as error:
            raise DeploymentFailed(
                f"The Compose file cannot be read: {error}.", "Mend `file` in the target."
            ) from error
        self.store.mark_complete(digest, {"image": self.target.image.reference(digest)})

    def prepare(self, digest: str) -> Checks:
        up = self._up(digest)
        if not up.ok:
            return (up,)
        self._backends.start(Backend(release=digest, address=self._address(digest)))
        health = self._remote(digest).wait_until_healthy(self.target.health, lambda: self._exit_reason(digest))
        return (up, health, *(self._remote(digest).smoke(self.target.smoke) if health.ok else ()))

    def activate(self, digest: str | None, previous: str | None) -> None:
        for each in (digest, previous):
            if each is not None and self.store.is_complete(each):
                if self._exit_reason(each):
                    self._up(each)
                self._backends.start(Backend(release=each, address=self._address(each)))
        self._backends.route(digest, previous)

    def verify(self, digest: str) -> Checks:
        if not self.target.watch_s:
            return ()
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        remote = self._remote(digest)
        return (
            self._backends.watch(
                digest, self.target.watch_s, self.target.health, remote.check_health, lambda: self._exit_reason(digest)
            ),
        )

    def recheck(self, digest: str) -> Checks:
        checks = self.prepare(digest)
        self._backends.route(digest, None)
        return checks

    def inspect(self, digest: str) -> Checks:
        return self._backends.inspect(digest) or (self._remote(digest).wait_until_healthy(self.target.health),)

    def retire_others(self, digest: str | None) -> None:
        self._backends.retire_others(digest)
        for port in self.store.base.glob("releases/*/port"):
            if port.parent.name != digest:
                self._down(port.parent.name)

    def clean_up(self) -> None:
        """Remove the images that no environment of the component needs."""
        needed = {folder.name for folder in self.store.base.parent.glob("*/releases/*")}
        prune(self.target.image, needed, self.docker)

    @cached_property
    def _backends(self) -> Backends:
        return Backends(self.store.base, self.target)

    def _remote(self, digest: str) -> RemoteRelease:
        return RemoteRelease(self.store.folder(digest), self.request.sandbox, self._address(digest))

    def _up(self, digest: str) -> Check:
        """Start a release's containers; the engine waits for their own health checks."""
        self.request.progress(f"starting the containers for {self.request.environment}")
        compose = self._compose(digest)
        wait = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(self.target.up_s))
        result = compose.run(*wait, timeout_s=self.target.up_s + 60)
        if result.ok:
            return Check(name="compose up", ok=True)
        logs = compose.run("logs", "--no-color", "--tail", "20").stdout.strip()[-MAX_LOGS:]
        return Check(name="compose up", ok=False, detail=f"{result.output}\n{logs}".strip())

    def _down(self, digest: str) -> None:
        port = self.store.folder(digest) / "port"
        if port.exists():
            self._compose(digest).run(
                "down", "--remove-orphans", "--timeout", str(self.target.stop_s), timeout_s=self.target.stop_s + 60
            )
            port.unlink()

    def _exit_reason(self, digest: str) -> str:
        """Why a release's containers do not all run as they were started, or an empty string."""
        labelled = f"label=com.docker.compose.project={self._project(digest)}"
        found = self.docker.require("ps", "--all", "--quiet", "--filter", labelled).split()
        if not found:
            return "it has no containers"
        for line in self.docker.require("inspect", "--format", _STATES, *found).splitlines():
            name, state, status, restarts = line.rsplit(" ", 3)
            ended_well = (state, status) == ("exited", "0") and len(found) > 1
            if (state != "running" and not ended_well) or restarts != "0":
                again = f", was started again {restarts} times" if restarts != "0" else ""
                return f"container {name.strip('/')} is {state} (status {status}{again})"
        return ""

    def _compose(self, digest: str) -> Tool:
        request, image = self.request, self.target.image.reference(digest)
        given = {
            "TTA_IMAGE": image,
            "TTA_PORT": self._address(digest).rpartition(":")[2],
            "TTA_RELEASE": digest,
            "TTA_COMPONENT": request.component.name,
            "TTA_ENVIRONMENT": request.environment,
        }
        file = str(self.store.folder(digest) / "compose.yaml")
        words = ("docker", "compose", "--project-name", self._project(digest), "--file", file)
        # The file's own folder, so that its relative paths hold.
        return Tool((*words, "--project-directory", str(self.target.file.parent)), {**self.target.env, **given})

    def _project(self, digest: str) -> str:
        name = f"{self.request.component.name}-{self.request.environment}-{digest[:12]}".lower()
        return "tta-" + re.sub(r"[^a-z0-9_-]", "-", name)

    def _address(self, digest: str) -> str:
        """Return where a release listens: the same port until its containers are removed."""
        known = self.store.folder(digest) / "port"
        if not known.exists():
            with socket.create_server(("127.0.0.1", 0)) as probe:
                known.write_text(str(probe.getsockname()[1]))
        return f"127.0.0.1:{known.read_text()}"
