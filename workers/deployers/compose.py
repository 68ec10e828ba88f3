"""Releases in containers of this host's engine: a Compose project for each, side by side behind the switch.

The operator's Compose file says what a release consists of. It is given ``TTA_IMAGE``, the release's image, and
``TTA_PORT``, the port of 127.0.0.1 on which this release is to be reached; also ``TTA_RELEASE``, ``TTA_COMPONENT`` and
``TTA_ENVIRONMENT``.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import History, Release, ReleaseRequest
from workers.deployers.backends import Beside, Serving
from workers.deployers.checks import Health, Reached
from workers.deployers.commands import Tool
from workers.deployers.image import Image, provide, prune
from workers.deployers.release_store import Site
from workers.deployers.rollout import Checks, Rollout, checked, entered
from workers.deployers.serving.states import Backend
from workers.deployers.targets import Table, absolute

_STATES = "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"
#: Characters of containers' output shown of a release that does not come up.
MAX_LOGS = 1500


class ComposeTarget(Table, Serving):
    """The table of an environment with ``deployer = "compose"``."""

    #: Where this worker keeps what it knows of releases, in a folder for each component and environment.
    path: Annotated[Path, AfterValidator(absolute)]
    #: The Compose file.
    file: Annotated[Path, AfterValidator(absolute)]
    image: Image
    #: How to tell whether a release is well; ``{address}`` and ``{port}`` tell where it listens.
    health: Health
    #: A command that must end well before a release is put into use; in the sandbox, with network. The same places.
    smoke: tuple[str, ...] = ()
    #: Seconds after the switch in which a release that is no longer well is rolled back.
    watch_s: float = Field(default=0.0, ge=0)
    #: Variables for the Compose file.
    env: Mapping[str, str] = Field(default_factory=dict)
    #: Seconds for its containers to come up, and to end when they are asked to.
    up_s: int = Field(default=120, ge=1)
    stop_s: int = Field(default=10, ge=0)
    #: Releases kept; those in use and to return to always are.
    keep: int = Field(default=5, ge=1)

    def site(self, component: str, environment: str) -> Site:
        """What is known of an environment of a component."""
        return Site(self.path / component / environment)


class ComposeDeployer:
    """Compose projects side by side, and a switch before them."""

    name = "compose"

    def release(self, request: ReleaseRequest) -> Release:
        """Make ``request.digest`` the release in use, checked; else the previous one is, or none.

        Raises:
            DeploymentFailed: It cannot be built, the engine refuses, or the previous release does not work either.
        """
        target = ComposeTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        with entered(site, request.token):
            ground = _Projects(request, target, site)
            release = Rollout(request, site, ground, target.keep).run()
            ground.prune()
            return release

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """See whether ``request.digest`` is in use, and works."""
        target = ComposeTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        return checked(request.digest, site, _Projects(request, target, site))

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Digests of the releases that can be gone back to, the one before the current first."""
        return ComposeTarget.read(target).site(component, environment).way_back()

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:
        """The release in use, and what happened."""
        return ComposeTarget.read(target).site(component, environment).told()


@dataclass
class _Projects:
    """The Compose projects of one environment of one component."""

    request: ReleaseRequest
    target: ComposeTarget
    site: Site

    docker = Tool(("docker",))

    @property
    def location(self) -> str:
        return self._beside.location

    def make(self, digest: str) -> None:
        request = self.request
        request.progress(f"building the image for {request.environment}")
        self._down(digest)
        provide(self.target.image, digest, request.artifact, self.docker)
        folder = self.site.clear(digest)
        try:
            shutil.copy(self.target.file, folder / "compose.yaml")
        except OSError as error:
            raise DeploymentFailed(
                f"The Compose file cannot be read: {error}.", "Mend `file` in the target."
            ) from error
        self.site.finish(digest, {"image": self.target.image.reference(digest)})

    def before(self, digest: str) -> Checks:
        up = self._up(digest)
        if not up.ok:
            return (up,)
        self._beside.start(Backend(release=digest, address=self._address(digest)))
        health = self._reached(digest).healthy(self.target.health, lambda: self._dead(digest))
        return (up, health, *(self._reached(digest).smoke(self.target.smoke) if health.ok else ()))

    def switch(self, digest: str | None, previous: str | None) -> None:
        for each in (digest, previous):
            if each is not None and self.site.complete(each):
                if self._dead(each):
                    self._up(each)
                self._beside.start(Backend(release=each, address=self._address(each)))
        self._beside.switch(digest, previous)

    def after(self, digest: str) -> Checks:
        if not self.target.watch_s:
            return ()
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        reached = self._reached(digest)
        return (
            self._beside.watched(
                digest, self.target.watch_s, self.target.health, reached.well, lambda: self._dead(digest)
            ),
        )

    def standing(self, digest: str) -> Checks:
        checks = self.before(digest)
        self._beside.switch(digest, None)
        return checks

    def look(self, digest: str) -> Checks:
        return self._beside.look(digest) or (self._reached(digest).healthy(self.target.health),)

    def settle(self, digest: str | None) -> None:
        self._beside.settle(digest)
        for port in self.site.base.glob("releases/*/port"):
            if port.parent.name != digest:
                self._down(port.parent.name)

    def prune(self) -> None:
        """Remove the images that no environment of the component needs."""
        needed = {folder.name for folder in self.site.base.parent.glob("*/releases/*")}
        prune(self.target.image, needed, self.docker)

    @cached_property
    def _beside(self) -> Beside:
        return Beside(self.site.base, self.target)

    def _reached(self, digest: str) -> Reached:
        return Reached(self.site.folder(digest), self.request.sandbox, self._address(digest))

    def _up(self, digest: str) -> Check:
        """Have a release's containers run; the engine waits for their own health checks."""
        self.request.progress(f"starting the containers for {self.request.environment}")
        compose = self._compose(digest)
        wait = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(self.target.up_s))
        told = compose.ask(*wait, timeout_s=self.target.up_s + 60)
        if told.ok:
            return Check(name="compose up", ok=True)
        logs = compose.ask("logs", "--no-color", "--tail", "20").stdout.strip()[-MAX_LOGS:]
        return Check(name="compose up", ok=False, detail=f"{told.said}\n{logs}".strip())

    def _down(self, digest: str) -> None:
        port = self.site.folder(digest) / "port"
        if port.exists():
            self._compose(digest).ask(
                "down", "--remove-orphans", "--timeout", str(self.target.stop_s), timeout_s=self.target.stop_s + 60
            )
            port.unlink()

    def _dead(self, digest: str) -> str:
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
        file = str(self.site.folder(digest) / "compose.yaml")
        words = ("docker", "compose", "--project-name", self._project(digest), "--file", file)
        # The file's own folder, so that what it names beside it is found.
        return Tool((*words, "--project-directory", str(self.target.file.parent)), {**self.target.env, **given})

    def _project(self, digest: str) -> str:
        name = f"{self.request.component.name}-{self.request.environment}-{digest[:12]}".lower()
        return "tta-" + re.sub(r"[^a-z0-9_-]", "-", name)

    def _address(self, digest: str) -> str:
        """Where a release is reached: the same port for as long as its containers are there."""
        known = self.site.folder(digest) / "port"
        if not known.exists():
            with socket.create_server(("127.0.0.1", 0)) as probe:
                known.write_text(str(probe.getsockname()[1]))
        return f"127.0.0.1:{known.read_text()}"
