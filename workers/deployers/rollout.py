"""The base of all deployers: ``RolloutDeployer`` runs a rollout, a ``Platform`` does its steps.

A rollout installs a release, prepares it, activates it, and verifies it in use. If a check fails, the previous release
is activated again. Lock, fencing, history and rollback are here and in :mod:`workers.deployers.release_store`, the same
for every deployer. docs/how-to/write-an-engine.md has a complete deployer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, Field

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import History, Release, ReleaseRequest
from workers.deployers.checks import failures, passed
from workers.deployers.release_store import Event, ReleaseStore
from workers.deployers.targets import TargetTable, absolute

Checks = tuple[Check, ...]


class RolloutTarget(TargetTable):
    """The keys that every rollout deployer reads from an environment's table; subclasses add their own."""

    #: Where releases, lock and history go, in a folder for each component and environment.
    path: Annotated[Path, AfterValidator(absolute)]
    #: Releases kept; those in use and to roll back to always are.
    keep: int = Field(default=5, ge=1)

    def store(self, component: str, environment: str) -> ReleaseStore:
        """Return the releases of a component in an environment."""
        return ReleaseStore(self.path / component / environment)


T = TypeVar("T", bound=RolloutTarget)


class Platform(ABC, Generic[T]):
    """The steps of a rollout. Each may be called again: an interrupted deployment is repeated.

    Only ``install`` must be implemented. A step that returns checks fails the rollout by one that is not ok.

    Args:
        request: What is deployed.
        target: The environment's table.
        store: The releases of the component in the environment.
    """

    def __init__(self, request: ReleaseRequest, target: T, store: ReleaseStore) -> None:
        self.request, self.target, self.store = request, target, store

    @property
    def location(self) -> str:
        """Where the release in use is: a path or a URL. The store's link by default."""
        return str(self.store.link)

    def fence(self) -> None:
        """Refuse a deployment older than the newest that the platform itself knows of; called first.

        The store refuses those that are older than what this worker has deployed. A platform that several workers
        deploy to keeps ``request.token`` itself, and compares it here.

        Raises:
            DeploymentFailed: A newer deployment was here.
        """

    @abstractmethod
    def install(self, digest: str) -> None:
        """Bring a release into ``store.clear(digest)``, and call ``store.mark_complete(digest)`` at the end.

        Raises:
            DeploymentFailed: It cannot be installed.
        """

    def prepare(self, digest: str) -> Checks:  # noqa: ARG002 - what a subclass is asked
        """Start an installed release next to the one in use, as far as the platform can, and check it."""
        return ()

    def activate(self, digest: str | None, previous: str | None) -> None:
        """Put a release into use, and keep ``previous`` ready for a rollback; ``None`` leaves none in use.

        The store's link points to it already.

        Raises:
            DeploymentFailed: It cannot be put into use.
        """

    def verify(self, digest: str) -> Checks:
        """Check the release that was just activated, and watch it. As ``recheck`` by default."""
        return self.recheck(digest)

    def recheck(self, digest: str) -> Checks:
        """Check the release in use when it is deployed again, or was rolled back to; may repair it."""
        return self.inspect(digest)

    def inspect(self, digest: str) -> Checks:  # noqa: ARG002 - what a subclass is asked
        """Check the release in use, and change nothing: a release is promoted to the next environment by it."""
        return ()

    def retire_others(self, digest: str | None) -> None:
        """Stop every release but ``digest``."""

    def clean_up(self) -> None:
        """Delete what belongs to releases that the store no longer has; called last."""


class RolloutDeployer(ABC, Generic[T]):
    """A deployer with lock, fence, history and rollback; a subclass names its table and its platform.

    Its instances satisfy :class:`tta_tasks.protocols.Deployer`.
    """

    #: The name in the targets file.
    name: str
    #: The model of the environment's table.
    target_type: type[T]

    @abstractmethod
    def platform(self, request: ReleaseRequest, target: T, store: ReleaseStore) -> Platform[T]:
        """Return the steps for a request."""

    def release(self, request: ReleaseRequest) -> Release:
        """Make ``request.digest`` the release in use, checked; if a check fails, roll back to the previous one.

        Raises:
            DeploymentFailed: It cannot be installed, the disk refuses a write, another deployment is newer or does not
                end, or the previous release fails its checks, too.
        """
        platform = self._platform(request)
        with platform.store.locked(request.token):
            platform.fence()
            release = _Rollout(platform).run()
            platform.clean_up()
            return release

    def check(self, request: ReleaseRequest) -> Checks:
        """Check whether ``request.digest`` is in use, and works; change nothing."""
        platform = self._platform(request)
        current = platform.store.current()
        if current == request.digest:
            return platform.inspect(request.digest)
        used = f"release {current[:12]} is" if current else "no release is"
        return (Check(name="in use", ok=False, detail=f"{used} in use instead"),)

    def releases(self, component: str, environment: str, target: Mapping[str, object]) -> Iterable[str]:
        """Return the releases that can be rolled back to, the one before the current first."""
        return self.target_type.read(target).store(component, environment).rollback_candidates()

    def history(self, component: str, environment: str, target: Mapping[str, object]) -> History:
        """Return the release in use, and what happened."""
        return self.target_type.read(target).store(component, environment).release_history()

    def _platform(self, request: ReleaseRequest) -> Platform[T]:
        target = self.target_type.read(request.target)
        return self.platform(request, target, target.store(request.component.name, request.environment))


class _Rollout(Generic[T]):
    """One rollout, with its environment locked."""

    def __init__(self, platform: Platform[T]) -> None:
        self._platform = platform
        self._request, self._store = platform.request, platform.store

    def run(self) -> Release:
        """Make the requested release the one in use, checked; else the previous one is, or none.

        Raises:
            DeploymentFailed: It cannot be installed, or the previous release fails its checks, too.
        """
        self._recover()
        digest, location = self._request.digest, self._platform.location
        if self._store.current() == digest and passed(checks := self._platform.recheck(digest)):
            self._platform.retire_others(digest)
            return Release("unchanged", location, checks=checks)
        checks = self._prepare()
        if not passed(checks):
            return self._roll_back(checks)
        self._record("switching", digest, self._previous)
        self._store.set_current(digest)
        checks = (*checks, *self._activate(digest, self._previous))
        if not passed(checks):
            return self._roll_back(checks)
        self._complete(digest, self._previous)
        return Release("released", location, self._previous, checks)

    def _prepare(self) -> Checks:
        """Install the release unless it is there and works, and check it."""
        digest = self._request.digest
        self._request.progress(f"checking the release for {self._request.environment}")
        if self._store.is_complete(digest) and passed(checks := self._platform.prepare(digest)):
            return checks
        self._platform.install(digest)
        return self._platform.prepare(digest)

    def _recover(self) -> None:
        """Complete, or roll back, a deployment that was interrupted after it had recorded its switch."""
        last = next(reversed(self._store.history()), None)
        if last is None or last.what != "switching":
            return
        if self._store.current() != last.release:
            self._record("interrupted", last.release, last.previous)
            return
        if passed(self._activate(last.release, last.previous)):
            self._complete(last.release, last.previous)
            return
        self._restore(last.previous if self._store.is_complete(last.previous) else None)
        self._record("rolled_back", last.release, last.previous)
        self._platform.retire_others(self._store.current())

    @cached_property
    def _previous(self) -> str | None:
        """What to roll back to: the release in use before or, if that is this one, the latest other."""
        current = self._store.current()
        if current is not None and current != self._request.digest:
            return current
        others = [digest for digest in self._store.rollback_candidates() if digest != self._request.digest]
        return next(iter(others), None) if self._store.link.is_symlink() else None

    def _roll_back(self, checks: Checks) -> Release:
        """Leave the previous release in use, or none, and delete the failed one."""
        digest, previous, current = self._request.digest, self._previous, self._store.current()
        self._request.progress(f"rolling {self._request.environment} back")
        if previous != current:
            self._restore(previous)
        self._record("rolled_back", digest, previous)
        again = self._platform.recheck(previous) if previous and previous != current else ()
        self._platform.retire_others(previous)
        self._store.remove(digest)
        if previous and not passed(again):
            raise DeploymentFailed(
                f"Release {digest[:12]} failed its checks ({failures(checks)}), and the previous one,"
                f" {previous[:12]}, which is in use again, fails its own ({failures(again)}).",
                "Look at the environment itself.",
            )
        return Release("rolled_back", self._platform.location, previous, checks)

    def _activate(self, digest: str, previous: str | None) -> Checks:
        """Put the release that the link names into use, and verify it."""
        try:
            self._platform.activate(digest, previous)
        except DeploymentFailed as error:
            return (Check(name="activate", ok=False, detail=str(error)),)
        return self._platform.verify(digest)

    def _restore(self, digest: str | None) -> None:
        self._store.set_current(digest)
        self._platform.activate(digest, None)

    def _complete(self, digest: str, previous: str | None) -> None:
        self._store.touch(digest)
        returned = self._request.back and digest == self._request.digest
        self._record("returned" if returned else "released", digest, previous)
        self._platform.retire_others(digest)
        self._store.prune(self._platform.target.keep, {digest, previous})

    def _record(self, event: Event, release: str, previous: str | None) -> None:
        request = self._request
        self._store.record(event, release, previous, run_id=request.run_id, task_id=request.task_id)
