"""An environment on this host that serves, and how to deploy to it."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deployers.shop import SHOP, SMOKE, digest, free_port, until
from tta_tasks.protocols import Release, ReleaseRequest
from workers.deployers.local import LocalDeployer
from workers.deployers.release_store import ReleaseStore
from workers.deployers.serving.client import ServingClient
from workers.deployers.serving.states import StateFiles
from workers.sandbox import detect_sandbox


class Place:
    """The environment ``production`` of the shop."""

    def __init__(self, path: Path, wheels: Mapping[str, Path]) -> None:
        self.port = free_port()
        self.store = ReleaseStore(path / "shop" / "production")
        self.files = StateFiles(self.store.base)
        self._wheels = wheels
        public = f"127.0.0.1:{self.port}"
        self.serve: dict[str, Any] = {"command": ["{bin}/shop", "{port}"], "public": public, "drain_s": 2}
        self.table: dict[str, object] = {
            "path": str(path),
            "smoke": ["{python}", "-c", SMOKE],
            "health": {"url": "http://{address}/health", "interval_s": 0.1, "timeout_s": 3},
            "serve": self.serve,
        }

    def request(self, version: str, **options: object) -> ReleaseRequest:
        """What asks for a version, with options of the target."""
        return ReleaseRequest(
            component=SHOP,
            environment="production",
            digest=digest(version),
            artifact=self._wheels[version],
            sandbox=detect_sandbox(),
            target={**self.table, **options},
        )

    def deploy(self, version: str, **options: object) -> Release:
        """Deploy a version."""
        return LocalDeployer().release(self.request(version, **options))

    def answer(self) -> str:
        """Who answers clients."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/") as response:
            return str(response.read().decode())

    def address(self, version: str) -> str:
        """Where a version listens itself."""
        return self.files.observed().backends[digest(version)].address

    def running(self) -> set[str]:
        """The releases that run."""
        return set(self.files.observed().backends)

    def events(self) -> list[str]:
        """What the history says happened."""
        return [entry.what for entry in self.store.history()]

    def end(self) -> None:
        """Leave nothing running."""
        ServingClient(self.store.base, f"127.0.0.1:{self.port}").retain((), 0)
        until(self.files.unsupervised)
