"""Releases on this host's own disk: ``PATH/COMPONENT/ENVIRONMENT/current/bin/...`` runs what is deployed.

A release that is a service is run, too, behind a switch (:mod:`workers.deployers.serving`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tta_tasks.errors import DeploymentFailed, EnvironmentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import History, Release, ReleaseRequest
from tta_tasks.settings import settings
from workers.deployers.backends import Beside, Serving
from workers.deployers.checks import Health, Installed, passed, watched
from workers.deployers.release_store import Site
from workers.deployers.rollout import Checks, Ground, Rollout, checked, entered
from workers.deployers.serving.states import Backend
from workers.deployers.targets import Table, absolute
from workers.environment.installer import Installer
from workers.environment.interpreters import find_interpreter


class Serve(Serving):
    """How a release is run as a service."""

    #: What serves: it must listen on ``{port}`` of 127.0.0.1 (also in the variable ``PORT``). ``{python}``, ``{bin}``,
    #: ``{release}`` and ``{data}`` (a folder it may write to, the same for each release) stand for paths.
    command: tuple[str, ...] = Field(min_length=1)
    #: Added to its environment.
    env: Mapping[str, str] = Field(default_factory=dict)
    #: Its bounds: bytes of address space of each process, and processes and threads.
    memory_bytes: int = Field(default=4 << 30, gt=0)
    processes: int = Field(default=512, gt=0)
    #: Seconds between being asked to end (SIGTERM) and being killed.
    stop_s: float = Field(default=5.0, ge=0)


class LocalTarget(Table):
    """The table of an environment with ``deployer = "local"``."""

    #: Where releases go, in a folder for each component and environment.
    path: Annotated[Path, AfterValidator(absolute)]
    #: Releases kept; those in use and to return to always are.
    keep: int = Field(default=5, ge=1)
    #: A command that tells whether a release works before it is used, instead of importing it. Status 0 is well;
    #: ``{python}``, ``{bin}`` and ``{release}`` stand for paths in the release. Without network; that of a service is
    #: asked once it runs, with network, and ``{address}`` and ``{port}`` tell where.
    smoke: tuple[str, ...] = ()
    #: Whether each of its programs must answer ``--help``, too.
    check_scripts: bool = False
    #: How to tell whether it works once it is in use; that of a service must, before it is.
    health: Health | None = None
    #: Seconds after the switch in which a release that is no longer well is rolled back.
    watch_s: float = Field(default=0.0, ge=0)
    #: For a release that is a service.
    serve: Serve | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.health is None and (self.serve is not None or self.watch_s):
            raise ValueError("`serve` and `watch_s` need `health`, which says how to tell whether it is well")
        return self

    def site(self, component: str, environment: str) -> Site:
        """Where an environment of a component is."""
        return Site(self.path / component / environment)


class LocalDeployer:
    """Virtual environments side by side, and a link to the one in use."""

    name = "local"

    def release(self, request: ReleaseRequest) -> Release:
        """Make ``request.digest`` the release in use, checked; else the previous one is, or none.

        Raises:
            DeploymentFailed: It cannot be installed, the disk refuses, or the previous release does not work either.
        """
        target = LocalTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        with entered(site, request.token):
            return Rollout(request, site, _ground(request, target, site), target.keep).run()

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """See whether ``request.digest`` is in use, and works."""
        target = LocalTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        return checked(request.digest, site, _ground(request, target, site))

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Digests of the releases that can be gone back to, the one before the current first."""
        return LocalTarget.read(target).site(component, environment).way_back()

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:
        """The release in use, and what happened."""
        return LocalTarget.read(target).site(component, environment).told()


def _ground(request: ReleaseRequest, target: LocalTarget, site: Site) -> Ground:
    return _Services(request, target, site, target.serve) if target.serve else _Files(request, target, site)


class _Installer(Installer):
    """uv, making a virtual environment out of the release's own folder."""

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def create(self, base: Path) -> None:
        self.require(self._uv("venv", "--no-project", "--quiet", "--python", base, self.home))


@dataclass
class _Files:
    """Releases that somebody else runs, out of the folder that the link names."""

    request: ReleaseRequest
    target: LocalTarget
    site: Site

    @property
    def location(self) -> str:
        return str(self.site.link)

    def make(self, digest: str) -> None:
        request, artifact = self.request, self.request.artifact
        if artifact is None:
            raise DeploymentFailed(
                f"Release {digest[:12]} is no longer here, or no longer works.", "Deploy the run that made it again."
            )
        folder = self.site.clear(digest)
        request.progress(f"installing {artifact.name} for {request.environment}")
        try:
            self._install(artifact, folder)
        except EnvironmentFailed as error:
            raise DeploymentFailed(f"The release does not install. {error.message}", error.hint) from error

    def before(self, digest: str) -> Checks:
        return tuple(self.installed(digest).smoke(self.target.smoke, scripts=self.target.check_scripts))

    def switch(self, digest: str | None, previous: str | None) -> None:
        """The link is all there is."""

    def after(self, digest: str) -> Checks:
        checks, installed = self._health(digest), self.installed(digest)
        if not self.target.watch_s or not passed(checks):
            return checks
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        return (*checks, watched(self.target.watch_s, self.target.health, installed.well, str))

    def standing(self, digest: str) -> Checks:
        return (*self.before(digest), *self._health(digest))

    def look(self, digest: str) -> Checks:
        return self.standing(digest)

    def settle(self, digest: str | None) -> None:
        """Nothing of ours is running."""

    def installed(self, digest: str) -> Installed:
        """A release, to be checked."""
        return Installed(self.site.folder(digest), self.request.component, self.request.sandbox)

    def _health(self, digest: str) -> tuple[Check, ...]:
        return (self.installed(digest).healthy(self.target.health),) if self.target.health else ()

    def _install(self, artifact: Path, folder: Path) -> None:
        uv_cache = settings().cache / "uv"
        uv_cache.mkdir(parents=True, exist_ok=True)
        interpreter = find_interpreter(self.request.component.requires_python)
        installer = _Installer(self.request.sandbox, folder, folder, uv_cache, {})
        installer.create(interpreter.path)
        installer.require(installer.install("--compile-bytecode", str(artifact)))
        shutil.copy(artifact, folder)
        self.site.finish(folder.name, {"wheel": artifact.name, "python": interpreter.version})


class _Services(_Files):
    """Releases that we run, each on a port of its own, behind the switch."""

    def __init__(self, request: ReleaseRequest, target: LocalTarget, site: Site, serve: Serve) -> None:
        super().__init__(request, target, site)
        self._serve = serve
        self._beside = Beside(site.base, serve)

    @property
    def location(self) -> str:
        return self._beside.location

    def make(self, digest: str) -> None:
        self._beside.settle(self.site.current() if self.site.current() != digest else None)
        super().make(digest)

    def before(self, digest: str) -> Checks:
        self._beside.start(self._backend(digest))
        health = self._healthy(digest)
        if not health.ok:
            return (health,)
        address = self._beside.address(digest)
        smoke = self.installed(digest).smoke(self.target.smoke, scripts=self.target.check_scripts, address=address)
        return (health, *smoke)

    def switch(self, digest: str | None, previous: str | None) -> None:
        for each in (digest, previous):
            if each is not None and self.site.complete(each):
                self._beside.start(self._backend(each))
        self._beside.switch(digest, previous)

    def after(self, digest: str) -> Checks:
        if not self.target.watch_s or self.target.health is None:
            return ()
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        return (self._beside.watched(digest, self.target.watch_s, self.target.health, self.installed(digest).well),)

    def standing(self, digest: str) -> Checks:
        checks = self.before(digest)
        self._beside.switch(digest, None)
        return checks

    def look(self, digest: str) -> Checks:
        return self._beside.look(digest) or (self._healthy(digest),)

    def settle(self, digest: str | None) -> None:
        self._beside.settle(digest)

    def _healthy(self, digest: str) -> Check:
        assert self.target.health is not None  # noqa: S101 - the target was validated
        health = self.target.health.at(self._beside.address(digest))
        return self.installed(digest).healthy(health, lambda: self._beside.dead(digest))

    def _backend(self, digest: str) -> Backend:
        places = {**self.installed(digest).paths, "data": self.site.base / "data"}
        words = list(self._serve.command)
        for name, path in places.items():
            words = [word.replace(f"{{{name}}}", str(path)) for word in words]
        return Backend(
            release=digest,
            command=tuple(words),
            folder=self.site.folder(digest),
            env=self._serve.env,
            memory_bytes=self._serve.memory_bytes,
            processes=self._serve.processes,
            grace_s=self._serve.stop_s,
        )
