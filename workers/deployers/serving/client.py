"""A deployment's side of serving: writes the desired state, and waits until the supervisor follows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from tta_tasks.errors import DeploymentFailed
from workers.deployers.serving.host_supervisor import hosted
from workers.deployers.serving.states import Backend, BackendStatus, DesiredState, ObservedState, StateFiles

#: Seconds for a supervisor to follow a change.
FOLLOWED_S = 30.0
#: Seconds for the public address to become free.
LISTENS_S = 2.0
#: Seconds between two reads of the observed state.
POLL_S = 0.05
#: What a supervisor gets of the worker's environment: none of its secrets.
PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


class ServingClient:
    """Changes what one environment serves; its lock must be held.

    Args:
        base: The environment's folder.
        public: Where clients connect, as ``host:port``.
    """

    def __init__(self, base: Path, public: str) -> None:
        self._files = StateFiles(base)
        self._public = public

    def start(self, backend: Backend) -> None:
        """Run ``backend`` next to the others; it gets no connections yet."""
        state = self._desired()
        if backend not in state.backends:
            others = (other for other in state.backends if other.release != backend.release)
            state = state.model_copy(update={"backends": (*others, backend)})
        self._apply(state)
        self._wait_for(lambda observed: bool(_of(observed, backend.release).address), FOLLOWED_S)

    def route(self, *releases: str | None) -> None:
        """Forward connections to the first of ``releases`` that accepts; without any, close the public address.

        Raises:
            DeploymentFailed: The public address cannot be listened on.
        """
        state = self._desired()
        known = {backend.release for backend in state.backends}
        order = tuple(release for release in releases if release is not None and release in known)
        observed = self._apply(state.model_copy(update={"order": order, "public": self._public}))
        if observed.error and not self._wait_for(lambda observed: not observed.error, LISTENS_S):
            raise DeploymentFailed(
                f"Clients cannot be served: {observed.error}.",
                "Free the address, or set another `public` in the target.",
            )

    def retain(self, releases: Collection[str | None], drain_s: float) -> None:
        """Stop all but ``releases`` when their connections have ended, after ``drain_s`` at the latest."""
        state = self._desired()
        kept = tuple(backend for backend in state.backends if backend.release in releases)
        if kept == state.backends:
            return
        leaving = [backend.release for backend in state.backends if backend not in kept]
        order = tuple(release for release in state.order if release not in leaving)
        state = state.model_copy(update={"order": order})
        self._apply(state)
        self._wait_for(lambda observed: not any(_of(observed, each).connections for each in leaving), drain_s)
        self._apply(state.model_copy(update={"backends": kept}))

    def status(self, release: str) -> BackendStatus:
        """Return the status of a backend now; starts a supervisor if there is none."""
        self._ensure_supervisor()
        return _of(self._files.observed(), release)

    def gets_connections(self, release: str) -> bool:
        """Whether a release gets connections now; starts nothing."""
        return release in self._desired().order and not self._files.unsupervised()

    def has(self, release: str) -> bool:
        """Whether a release is in the desired state."""
        return any(backend.release == release for backend in self._desired().backends)

    def _desired(self) -> DesiredState:
        return self._files.desired() or DesiredState(public=self._public)

    def _apply(self, state: DesiredState) -> ObservedState:
        """Write a desired state if it differs, and wait until the supervisor follows it."""
        if (before := self._files.desired()) != state:
            state = state.model_copy(update={"generation": (before or state).generation + 1})
            self._files.write_desired(state)
        if not state.backends and self._files.unsupervised():
            return ObservedState()
        if not self._wait_for(lambda observed: observed.generation >= state.generation, FOLLOWED_S):
            raise DeploymentFailed(
                f"The service supervisor of {self._files.base} does not follow.",
                f"See {self._files.base / 'supervisor.log'}.",
            )
        return self._files.observed()

    def _wait_for(self, holds: Callable[[ObservedState], bool], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while True:
            self._ensure_supervisor()
            if holds(self._files.observed()):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)

    def _ensure_supervisor(self) -> None:
        """Start a supervisor if there is none; where ``tta serve`` runs, that one does."""
        if not self._files.unsupervised() or hosted(self._files.base):
            return
        with (self._files.base / "supervisor.log").open("a") as log:
            subprocess.run(
                [sys.executable, "-P", "-m", __package__ + ".service_supervisor", "--detach", self._files.base],
                env={name: os.environ[name] for name in PASSED if name in os.environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )


def _of(observed: ObservedState, release: str) -> BackendStatus:
    return observed.backends.get(release, BackendStatus())
