"""Releases on this host's own disk: ``PATH/COMPONENT/ENVIRONMENT/current/bin/...`` runs what is deployed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from tta_tasks.errors import DeploymentFailed, EnvironmentFailed
from tta_tasks.models import Check, Model
from tta_tasks.protocols import Release, ReleaseRequest
from tta_tasks.settings import settings
from workers.deployers.checks import Health, Installed
from workers.deployers.site import Site
from workers.deployers.targets import problems
from workers.environment.installer import Installer
from workers.environment.interpreters import find_interpreter


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


class LocalTarget(Model):
    """The table of an environment with ``deployer = "local"``."""

    #: Where releases go, in a folder for each component and environment.
    path: Annotated[Path, AfterValidator(_absolute)]
    #: Releases kept; those in use and to return to always are.
    keep: int = Field(default=5, ge=1)
    #: A command that tells whether a release works before it is used, instead of importing it. Status 0 is well;
    #: ``{python}``, ``{bin}`` and ``{release}`` stand for paths in the release. Without network.
    smoke: tuple[str, ...] = ()
    #: Whether each of its programs must answer ``--help``, too.
    check_scripts: bool = False
    #: How to tell whether it works once it is in use.
    health: Health | None = None

    @classmethod
    def read(cls, table: Mapping[str, object]) -> LocalTarget:
        """Make sense of a table.

        Raises:
            DeploymentFailed: It does not hold.
        """
        try:
            return cls.model_validate(dict(table))
        except ValidationError as error:
            raise DeploymentFailed(
                f"The target's table does not hold: {problems(error)}.",
                "Mend it in the file that TTA_TARGETS_FILE names.",
            ) from error

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
        try:
            with site.locked():
                site.fence(request.token)
                return _Deployment(request, target, site).run()
        except OSError as error:
            raise DeploymentFailed(
                f"The release cannot be written to {site.base}: {error}.",
                "See that the worker may write there, and that there is room.",
            ) from error
        except EnvironmentFailed as error:
            raise DeploymentFailed(f"The release does not install. {error.message}", error.hint) from error

    def check(self, request: ReleaseRequest) -> tuple[Check, ...]:
        """See whether ``request.digest`` is in use, and works."""
        target = LocalTarget.read(request.target)
        site = target.site(request.component.name, request.environment)
        current = site.current()
        if current != request.digest:
            used = f"release {current[:12]} is" if current else "no release is"
            return (Check(name="in use", ok=False, detail=f"{used} in use instead"),)
        return _Deployment(request, target, site).checks(current)

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Digests of the releases that can be rolled back to, newest first."""
        site = LocalTarget.read(target).site(component, environment)
        current = site.current()
        return [digest for digest in site.releases() if digest != current]


class _Installer(Installer):
    """uv, making a virtual environment out of the release's own folder."""

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def create(self, base: Path) -> None:
        self.require(self._uv("venv", "--no-project", "--quiet", "--python", base, self.home))


@dataclass
class _Deployment:
    """One release on its way, with its environment locked."""

    request: ReleaseRequest
    target: LocalTarget
    site: Site

    def run(self) -> Release:
        self._heal()
        digest, current = self.request.digest, self.site.current()
        if current == digest:
            checks = self.checks(digest)
            if _pass(checks):
                return Release("unchanged", str(self.site.link), checks=checks)
        if not self._ready(digest):
            self._install()
        checks = self._smoke(digest)
        if not _pass(checks):
            return self._back(checks)
        self.site.record("switching", digest, self._previous)
        self.site.switch(digest)
        checks = (*checks, *self._health(digest))
        if not _pass(checks):
            return self._back(checks)
        self._released(digest)
        return Release("released", str(self.site.link), self._previous, checks)

    def _ready(self, digest: str) -> bool:
        """Whether the release was installed before, and still works."""
        return self.site.complete(digest) and _pass(self._smoke(digest))

    def _heal(self) -> None:
        """See to a deployment that was interrupted between its switch and its end."""
        last = next(reversed(self.site.history()), None)
        if last is None or last.what != "switching":
            return
        if self.site.current() != last.release:
            self.site.record("interrupted", last.release, last.previous)
        elif _pass(self.checks(last.release)):
            self.site.record("released", last.release, last.previous)
        else:
            self.site.switch(last.previous if self.site.complete(last.previous) else None)
            self.site.record("rolled_back", last.release, last.previous)

    @cached_property
    def _previous(self) -> str | None:
        """What to go back to: the release in use before or, if this is it, the newest other."""
        others = [digest for digest in self.site.releases() if digest != self.request.digest]
        current = self.site.current()
        return current if current in others else next(iter(others), None) if self.site.link.is_symlink() else None

    def _install(self) -> None:
        request = self.request
        if request.artifact is None:
            raise DeploymentFailed(
                f"Release {request.digest[:12]} is not at {self.site.base}, and nothing to make it of."
            )
        folder = self.site.clear(request.digest)
        request.progress(f"installing {request.artifact.name} for {request.environment}")
        uv_cache = settings().cache / "uv"
        uv_cache.mkdir(parents=True, exist_ok=True)
        interpreter = find_interpreter(request.component.requires_python)
        installer = _Installer(request.sandbox, folder, folder, uv_cache, {})
        installer.create(interpreter.path)
        installer.require(installer.install("--compile-bytecode", str(request.artifact)))
        shutil.copy(request.artifact, folder)
        self.site.finish(request.digest, {"wheel": request.artifact.name, "python": interpreter.version})

    def _back(self, checks: tuple[Check, ...]) -> Release:
        """Leave the previous release in use, or none, and take the failed one away."""
        previous, was = self._previous, self.site.current()
        self.request.progress(f"rolling {self.request.environment} back")
        self.site.switch(previous)
        self.site.record("rolled_back", self.request.digest, previous)
        self.site.remove(self.request.digest)
        if previous and previous != was and not _pass(again := self.checks(previous)):
            raise DeploymentFailed(
                f"Release {self.request.digest[:12]} failed its checks ({_said(checks)}), and the previous one,"
                f" {previous[:12]}, which is in use again, fails its own ({_said(again)}).",
                "Look at the environment itself.",
            )
        return Release("rolled_back", str(self.site.link), previous, checks)

    def _released(self, digest: str) -> None:
        self.site.freshen(digest)
        self.site.record("released", digest, self._previous)
        self.site.prune(self.target.keep, {digest, self._previous})

    def checks(self, digest: str) -> tuple[Check, ...]:
        """Check a release that is in use."""
        return (*self._smoke(digest), *self._health(digest))

    def _smoke(self, digest: str) -> tuple[Check, ...]:
        self.request.progress(f"checking the release for {self.request.environment}")
        return tuple(self._installed(digest).smoke(self.target.smoke, scripts=self.target.check_scripts))

    def _health(self, digest: str) -> tuple[Check, ...]:
        return (self._installed(digest).healthy(self.target.health),) if self.target.health else ()

    def _installed(self, digest: str) -> Installed:
        return Installed(self.site.folder(digest), self.request.component, self.request.sandbox)


def _pass(checks: Iterable[Check]) -> bool:
    return all(check.ok for check in checks)


def _said(checks: Iterable[Check]) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.ok)
