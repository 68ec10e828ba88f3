"""The ``local`` deployer: releases on this host's disk, run from ``PATH/COMPONENT/ENVIRONMENT/current/bin/``.

A release that is a service is also run, behind one public address (:mod:`workers.deployers.serving`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tta_tasks.errors import DeploymentFailed, EnvironmentFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Check
from tta_tasks.protocols import ReleaseRequest
from tta_tasks.settings import settings
from workers.deployers.backends import Backends, ServingConfig
from workers.deployers.checks import Health, InstalledRelease, passed, watch
from workers.deployers.release_store import ReleaseStore
from workers.deployers.rollout import Checks, Platform, RolloutDeployer, RolloutTarget
from workers.deployers.serving.states import Backend
from workers.environment.interpreters import find_interpreter
from workers.environment.wheel import BadWheel, read
from workers.environment.workshop import needs, workshop


class ServiceConfig(ServingConfig):
    """How a release is run as a service."""

    #: The service's command: it must listen on ``{port}`` of 127.0.0.1 (also in the variable ``PORT``). ``{python}``,
    #: ``{bin}``, ``{release}`` and ``{data}`` (a folder it may write to, the same for each release) stand for paths.
    command: tuple[str, ...] = Field(min_length=1)
    #: Added to its environment.
    env: Mapping[str, str] = Field(default_factory=dict)
    #: Its bounds: bytes of address space of each process, and processes and threads.
    memory_bytes: int = Field(default=4 << 30, gt=0)
    processes: int = Field(default=512, gt=0)
    #: Seconds between being asked to end (SIGTERM) and being killed.
    stop_s: float = Field(default=5.0, ge=0)


class LocalTarget(RolloutTarget):
    """The table of an environment with ``deployer = "local"``."""

    #: A command that checks a release before it is used, instead of importing it; it must end with status 0.
    #: ``{python}``, ``{bin}`` and ``{release}`` stand for paths in the release. It has no network access. For a service
    #: it runs after the start, with network access; ``{address}`` and ``{port}`` stand for where the service listens.
    smoke: tuple[str, ...] = ()
    #: Whether each of its programs must answer ``--help``, too.
    check_scripts: bool = False
    #: The health check of a release in use; a service must pass it before it gets clients.
    health: Health | None = None
    #: Seconds after the switch in which a release that becomes unhealthy is rolled back.
    watch_s: float = Field(default=0.0, ge=0)
    #: For a release that is a service.
    serve: ServiceConfig | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.health is None and (self.serve is not None or self.watch_s):
            raise ValueError("`serve` and `watch_s` need `health`")
        return self


class LocalDeployer(RolloutDeployer[LocalTarget]):
    """Virtual environments on this host, and a link to the one in use."""

    name = "local"
    target_type = LocalTarget

    def platform(self, request: ReleaseRequest, target: LocalTarget, store: ReleaseStore) -> Platform[LocalTarget]:
        """Return the steps for plain releases or, where the table says how to serve, for services."""
        if target.serve is None:
            return _LocalPlatform(request, target, store)
        return _ServicePlatform(request, target, store, target.serve)


class _LocalPlatform(Platform[LocalTarget]):
    """Releases that others run from the folder that the link names."""

    def install(self, digest: str) -> None:
        request, artifact = self.request, self.request.artifact
        if artifact is None:
            raise DeploymentFailed(
                f"Release {digest[:12]} is no longer here, or no longer works.", "Deploy the run that made it again."
            )
        folder = self.store.clear(digest)
        request.progress(f"installing {artifact.name} for {request.environment}")
        try:
            self._install(artifact, folder)
        except EnvironmentFailed as error:
            raise DeploymentFailed(f"The release does not install. {error.message}", error.hint) from error
        except BadWheel as error:
            raise DeploymentFailed(f"The release does not install: {error}.") from error

    def prepare(self, digest: str) -> Checks:
        return tuple(self.installed(digest).smoke(self.target.smoke, scripts=self.target.check_scripts))

    def verify(self, digest: str) -> Checks:
        checks, installed = self._health(digest), self.installed(digest)
        if not self.target.watch_s or not passed(checks):
            return checks
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        return (*checks, watch(self.target.watch_s, self.target.health, installed.check_health, str))

    def recheck(self, digest: str) -> Checks:
        return (*self.prepare(digest), *self._health(digest))

    def inspect(self, digest: str) -> Checks:
        return self.recheck(digest)

    def installed(self, digest: str) -> InstalledRelease:
        """Return a release to check."""
        request = self.request
        return InstalledRelease(self.store.folder(digest), request.component, request.sandbox, self._readable(digest))

    def _readable(self, digest: str) -> tuple[Path, ...]:
        """What a release needs beside its folder: the interpreter it was made from, noted when it was installed."""
        if isinstance(noted := self.store.details(digest).get("readable"), list):
            return tuple(Path(str(path)) for path in noted)
        return find_interpreter(self.request.component.requires_python).readable

    def _health(self, digest: str) -> tuple[Check, ...]:
        return (self.installed(digest).wait_until_healthy(self.target.health),) if self.target.health else ()

    def _install(self, artifact: Path, folder: Path) -> None:
        request = self.request
        interpreter = find_interpreter(request.component.requires_python)
        content = artifact.read_bytes()
        with workshop(settings().cache, request.sandbox, interpreter, request.progress) as shop:
            shop.make(folder, shop.resolve(needs(read(artifact.name, content), interpreter)))
            shop.installer.require(shop.installer.add(folder, [artifact]))
            shop.installer.compile(folder)
        ForeignTree(folder).write_bytes(artifact.name, content)
        readable = [str(path) for path in interpreter.readable]
        details = {"wheel": artifact.name, "python": interpreter.version, "readable": readable}
        self.store.mark_complete(folder.name, details)


class _ServicePlatform(_LocalPlatform):
    """Releases that the service supervisor runs, each on its own port, behind the public address."""

    def __init__(self, request: ReleaseRequest, target: LocalTarget, store: ReleaseStore, serve: ServiceConfig) -> None:
        super().__init__(request, target, store)
        self._config = serve
        self._backends = Backends(store.base, serve)

    @property
    def location(self) -> str:
        return self._backends.location

    def install(self, digest: str) -> None:
        self._backends.retire_others(self.store.current() if self.store.current() != digest else None)
        super().install(digest)

    def prepare(self, digest: str) -> Checks:
        self._backends.start(self._backend(digest))
        health = self._healthy(digest)
        if not health.ok:
            return (health,)
        address = self._backends.address(digest)
        smoke = self.installed(digest).smoke(self.target.smoke, scripts=self.target.check_scripts, address=address)
        return (health, *smoke)

    def activate(self, digest: str | None, previous: str | None) -> None:
        for each in (digest, previous):
            if each is not None and self.store.is_complete(each):
                self._backends.start(self._backend(each))
        self._backends.route(digest, previous)

    def verify(self, digest: str) -> Checks:
        if not self.target.watch_s or self.target.health is None:
            return ()
        self.request.progress(f"watching the release for {self.target.watch_s:g} s")
        return (
            self._backends.watch(digest, self.target.watch_s, self.target.health, self.installed(digest).check_health),
        )

    def recheck(self, digest: str) -> Checks:
        checks = self.prepare(digest)
        self._backends.route(digest, None)
        return checks

    def inspect(self, digest: str) -> Checks:
        return self._backends.inspect(digest) or (self._healthy(digest),)

    def retire_others(self, digest: str | None) -> None:
        self._backends.retire_others(digest)

    def _healthy(self, digest: str) -> Check:
        assert self.target.health is not None  # noqa: S101 - the target was validated
        health = self.target.health.at(self._backends.address(digest))
        return self.installed(digest).wait_until_healthy(health, lambda: self._backends.exit_reason(digest))

    def _backend(self, digest: str) -> Backend:
        places = {**self.installed(digest).paths, "data": self.store.base / "data"}
        words = list(self._config.command)
        for name, path in places.items():
            words = [word.replace(f"{{{name}}}", str(path)) for word in words]
        return Backend(
            release=digest,
            command=tuple(words),
            folder=self.store.folder(digest),
            readable=self._readable(digest),
            env=self._config.env,
            memory_bytes=self._config.memory_bytes,
            processes=self._config.processes,
            grace_s=self._config.stop_s,
        )
