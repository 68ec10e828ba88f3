"""A deployment's side of what is served: says what should be, and waits until it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from tta_tasks.errors import DeploymentFailed
from workers.deployers.serving.host_supervisor import hosted
from workers.deployers.serving.states import Backend, Files, Plan, Seen, Status

#: Seconds for a keeper to act upon a plan, and between two looks at what it told.
ACTED_S = 30.0
#: Seconds for the public address to become free.
LISTENS_S = 2.0
POLL_S = 0.05
#: What a keeper gets of the worker's environment: none of its secrets.
PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


class Front:
    """What one environment serves; its lock must be held.

    Args:
        base: The environment's folder.
        public: Where clients connect, as ``host:port``.
    """

    def __init__(self, base: Path, public: str) -> None:
        self._files = Files(base)
        self._public = public

    def start(self, backend: Backend) -> None:
        """Have ``backend`` beside the others; nobody is sent to it yet."""
        plan = self._plan()
        if backend not in plan.backends:
            others = (other for other in plan.backends if other.release != backend.release)
            plan = plan.model_copy(update={"backends": (*others, backend)})
        self._want(plan)
        self._awaited(lambda status: bool(_of(status, backend.release).address), ACTED_S)

    def order(self, *releases: str | None) -> None:
        """Send connections to the first of ``releases`` that takes them; to nobody without any.

        Raises:
            DeploymentFailed: The public address cannot be listened on.
        """
        plan = self._plan()
        known = {backend.release for backend in plan.backends}
        order = tuple(release for release in releases if release is not None and release in known)
        status = self._want(plan.model_copy(update={"order": order, "public": self._public}))
        if status.error and not self._awaited(lambda status: not status.error, LISTENS_S):
            raise DeploymentFailed(
                f"Clients cannot be served: {status.error}.", "Free the address, or set another `public` in the target."
            )

    def retain(self, releases: Collection[str | None], drain_s: float) -> None:
        """End all but ``releases``, once their connections have ended or ``drain_s`` is over."""
        plan = self._plan()
        kept = tuple(backend for backend in plan.backends if backend.release in releases)
        if kept == plan.backends:
            return
        leaving = [backend.release for backend in plan.backends if backend not in kept]
        order = tuple(release for release in plan.order if release not in leaving)
        plan = plan.model_copy(update={"order": order})
        self._want(plan)
        self._awaited(lambda status: not any(_of(status, each).connections for each in leaving), drain_s)
        self._want(plan.model_copy(update={"backends": kept}))

    def seen(self, release: str) -> Seen:
        """How a release is, now; a keeper that has died is started again."""
        self._keep()
        return _of(self._files.status(), release)

    def served(self, release: str) -> bool:
        """Whether a release gets connections now; a keeper that has died is left dead."""
        plan = self._plan()
        return release in plan.order and not self._files.forsaken()

    def serves(self, release: str) -> bool:
        """Whether the plan has it."""
        return any(backend.release == release for backend in self._plan().backends)

    def _plan(self) -> Plan:
        return self._files.plan() or Plan(public=self._public)

    def _want(self, plan: Plan) -> Status:
        """Write a plan down where it is another one, and wait until it was acted upon."""
        if (before := self._files.plan()) != plan:
            plan = plan.model_copy(update={"generation": (before or plan).generation + 1})
            self._files.want(plan)
        if not plan.backends and self._files.forsaken():
            return Status()
        if not self._awaited(lambda status: status.generation >= plan.generation, ACTED_S):
            raise DeploymentFailed(
                f"What keeps the releases in {self._files.base} running does not answer.",
                f"See {self._files.base / 'keeper.log'}.",
            )
        return self._files.status()

    def _awaited(self, holds: Callable[[Status], bool], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while True:
            self._keep()
            if holds(self._files.status()):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)

    def _keep(self) -> None:
        """See that there is a keeper; where ``tta serve`` runs, that one starts it."""
        if not self._files.forsaken() or hosted(self._files.base):
            return
        with (self._files.base / "keeper.log").open("a") as log:
            subprocess.run(
                [sys.executable, "-P", "-m", __package__ + ".service_supervisor", "--detach", self._files.base],
                env={name: os.environ[name] for name in PASSED if name in os.environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )


def _of(status: Status, release: str) -> Seen:
    return status.backends.get(release, Seen())
