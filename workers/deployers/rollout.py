"""How a release comes into use, whatever it comes into use on: prepare, check, switch, watch; else go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Check
from tta_tasks.protocols import Release, ReleaseRequest
from workers.deployers.checks import passed, said_of
from workers.deployers.release_store import Site, What

Checks = tuple[Check, ...]


class Ground(Protocol):
    """What releases run on. Each step may be asked for again: a deployment that was interrupted is done once more."""

    @property
    def location(self) -> str:
        """Where the release in use is: a path or a URL."""

    def make(self, digest: str) -> None:
        """Bring the release into the site's folder, complete.

        Raises:
            DeploymentFailed: It cannot be made.
        """

    def before(self, digest: str) -> Checks:
        """Have a complete release ready beside the one in use, as far as can be, and check it."""

    def switch(self, digest: str | None, previous: str | None) -> None:
        """Put a release into use; ``previous`` stays at hand. ``None`` leaves none in use."""

    def after(self, digest: str) -> Checks:
        """Check, and watch, the release that has just been put into use."""

    def standing(self, digest: str) -> Checks:
        """Check the release that has been in use."""

    def look(self, digest: str) -> Checks:
        """Check the release in use, and change nothing."""

    def settle(self, digest: str | None) -> None:
        """End all but the release in use."""


@dataclass
class Rollout:
    """One release on its way, with its environment locked.

    Attributes:
        keep: Releases kept; those in use and to return to always are.
    """

    request: ReleaseRequest
    site: Site
    ground: Ground
    keep: int

    def run(self) -> Release:
        """Make ``request.digest`` the release in use, checked; else the previous one is, or none.

        Raises:
            DeploymentFailed: It cannot be made, or the previous release does not work either.
        """
        self._heal()
        digest, current = self.request.digest, self.site.current()
        if current == digest and passed(checks := self.ground.standing(digest)):
            self.ground.settle(digest)
            return Release("unchanged", self.ground.location, checks=checks)
        checks = self._prepared()
        if not passed(checks):
            return self._back(checks)
        self._record("switching", digest, self._previous)
        self.site.switch(digest)
        checks = (*checks, *self._used(digest, self._previous))
        if not passed(checks):
            return self._back(checks)
        self._released(digest, self._previous)
        return Release("released", self.ground.location, self._previous, checks)

    def _prepared(self) -> Checks:
        """The release, made unless it was made before and still works."""
        digest = self.request.digest
        self.request.progress(f"checking the release for {self.request.environment}")
        if self.site.complete(digest) and passed(checks := self.ground.before(digest)):
            return checks
        self.ground.make(digest)
        return self.ground.before(digest)

    def _heal(self) -> None:
        """See to a deployment that was interrupted between its switch and its end."""
        last = next(reversed(self.site.history()), None)
        if last is None or last.what != "switching":
            return
        if self.site.current() != last.release:
            self._record("interrupted", last.release, last.previous)
            return
        if passed(self._used(last.release, last.previous)):
            self._released(last.release, last.previous)
            return
        self._switch(last.previous if self.site.complete(last.previous) else None)
        self._record("rolled_back", last.release, last.previous)
        self.ground.settle(self.site.current())

    @cached_property
    def _previous(self) -> str | None:
        """What to go back to: the release in use before or, if this is it, the latest other."""
        current = self.site.current()
        if current is not None and current != self.request.digest:
            return current
        others = [digest for digest in self.site.way_back() if digest != self.request.digest]
        return next(iter(others), None) if self.site.link.is_symlink() else None

    def _back(self, checks: Checks) -> Release:
        """Leave the previous release in use, or none, and take the failed one away."""
        digest, previous, was = self.request.digest, self._previous, self.site.current()
        self.request.progress(f"rolling {self.request.environment} back")
        if previous != was:
            self._switch(previous)
        self._record("rolled_back", digest, previous)
        again = self.ground.standing(previous) if previous and previous != was else ()
        self.ground.settle(previous)
        self.site.remove(digest)
        if previous and not passed(again):
            raise DeploymentFailed(
                f"Release {digest[:12]} failed its checks ({said_of(checks)}), and the previous one,"
                f" {previous[:12]}, which is in use again, fails its own ({said_of(again)}).",
                "Look at the environment itself.",
            )
        return Release("rolled_back", self.ground.location, previous, checks)

    def _used(self, digest: str, previous: str | None) -> Checks:
        """Have the release that the site names be the one in use, and see how it does."""
        try:
            self.ground.switch(digest, previous)
        except DeploymentFailed as error:
            return (Check(name="switch", ok=False, detail=str(error)),)
        return self.ground.after(digest)

    def _switch(self, digest: str | None) -> None:
        self.site.switch(digest)
        self.ground.switch(digest, None)

    def _released(self, digest: str, previous: str | None) -> None:
        self.site.freshen(digest)
        asked = self.request.back and digest == self.request.digest
        self._record("returned" if asked else "released", digest, previous)
        self.ground.settle(digest)
        self.site.prune(self.keep, {digest, previous})

    def _record(self, what: What, release: str, previous: str | None) -> None:
        request = self.request
        self.site.record(what, release, previous, run_id=request.run_id, task_id=request.task_id)


def checked(digest: str, site: Site, ground: Ground) -> Checks:
    """Whether a release is in use, and well."""
    current = site.current()
    if current == digest:
        return ground.look(digest)
    used = f"release {current[:12]} is" if current else "no release is"
    return (Check(name="in use", ok=False, detail=f"{used} in use instead"),)


@contextmanager
def entered(site: Site, token: float) -> Iterator[None]:
    """Alone with an environment, and the newest that ever was.

    Raises:
        DeploymentFailed: Another deployment goes on for too long, a newer one was there before, or the disk refuses.
    """
    try:
        with site.locked():
            site.fence(token)
            yield
    except OSError as error:
        raise DeploymentFailed(
            f"The release cannot be written to {site.base}: {error}.",
            "See that the worker may write there, and that there is room.",
        ) from error
