"""Releases as Compose projects on a real engine, with real requests all the while.

Skipped where there is no engine, or no image to build from: DEPLOYERS_BASE_IMAGE, else python:3.12-slim.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.deployers.shop import SHOP, SMOKE, Wheels, asking, die, digest, free_port, until
from tta_tasks.errors import DeploymentFailed
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.deployers import compose
from workers.deployers.compose import ComposeDeployer
from workers.deployers.release_store import ReleaseStore
from workers.deployers.serving.client import ServingClient
from workers.deployers.serving.states import StateFiles
from workers.sandbox import PYTHON, detect_sandbox

BASE = os.environ.get("DEPLOYERS_BASE_IMAGE", "python:3.12-slim")
FILE = """\
services:
  shop:
    image: ${TTA_IMAGE}
    command: ["/release/bin/shop", "${TTA_PORT}"]
    network_mode: host
"""


def engine() -> bool:
    """Whether there is an engine with Compose and the base image."""
    if shutil.which("docker") is None:
        return False
    asked = (["docker", "compose", "version"], ["docker", "image", "inspect", BASE])
    return all(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in asked)


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not engine(), reason=f"no engine with Compose and {BASE}")]


class Place:
    """An environment of containers."""

    def __init__(self, folder: Path, wheels: Mapping[str, Path]) -> None:
        self.port = free_port()
        self.store = ReleaseStore(folder / "srv" / "shop" / "production")
        self.files = StateFiles(self.store.base)
        self._wheels = wheels
        (folder / "shop.yaml").write_text(FILE)
        self.table: dict[str, object] = {
            "path": str(folder / "srv"),
            "file": str(folder / "shop.yaml"),
            "image": {"name": f"tta-test-{self.port}", "base": BASE, "network": "host"},
            "public": f"127.0.0.1:{self.port}",
            "health": {"url": "http://{address}/health", "interval_s": 0.2, "timeout_s": 5},
            "smoke": [str(PYTHON), "-c", SMOKE],
            "drain_s": 2,
            "stop_s": 1,
        }

    def deploy(self, version: str, *, built: bool = True, **options: object) -> Release:
        """Deploy a version, with options of the target."""
        return ComposeDeployer().release(
            ReleaseRequest(
                component=SHOP,
                environment="production",
                digest=digest(version),
                artifact=self._wheels[version] if built else None,
                sandbox=detect_sandbox(),
                target={**self.table, **options},
                back=not built,
            )
        )

    def answer(self) -> str:
        """Who answers clients."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/") as response:
            return str(response.read().decode())

    def images(self) -> set[str]:
        """The releases of which there is an image."""
        name = f"tta-test-{self.port}"
        return set(_docker("image", "ls", name, "--format", "{{.Tag}}").split())

    def containers(self) -> int:
        """How many run."""
        return len(_docker("ps", "--quiet", "--filter", f"ancestor={BASE}").split())

    def projects(self) -> set[str]:
        """The projects that there are."""
        listed = _docker("ps", "--all", "--format", '{{.Label "com.docker.compose.project"}}').split()
        return {name for name in listed if name.startswith("tta-shop-production-")}

    def events(self) -> list[str]:
        """What the history says happened."""
        return [entry.what for entry in self.store.history()]

    def end(self) -> None:
        """Leave nothing behind."""
        ServingClient(self.store.base, f"127.0.0.1:{self.port}").retain((), 0)
        until(self.files.unsupervised)
        for project in self.projects():
            _docker("compose", "--project-name", project, "down", "--timeout", "1")
        for tag in self.images():
            _docker("image", "rm", "--force", f"tta-test-{self.port}:{tag}")


def _docker(*words: str) -> str:
    argv = [shutil.which("docker") or "docker", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def project(version: str) -> str:
    return f"tta-shop-production-{digest(version)[:12]}"


@pytest.fixture
def place(tmp_path: Path, wheels: Wheels) -> Iterator[Place]:
    """An empty environment."""
    place = Place(tmp_path, wheels)
    yield place
    place.end()


def test_releases_follow_each_other_without_a_failed_request(place: Place) -> None:
    """Built, tagged with the digest, checked beside the old one, switched to; again it is unchanged; and back again."""
    first = place.deploy("one")
    assert (first.action, first.location) == ("released", f"tcp://127.0.0.1:{place.port}")
    with asking(place.port) as client:
        until(lambda: client.answers["one"] > 5)
        assert place.deploy("two").action == "released"
        until(lambda: client.answers["two"] > 5)
        before = place.events()
        assert place.deploy("two").action == "unchanged"
        assert place.events() == before
        back = next(iter(ComposeDeployer().releases("shop", "production", place.table)))
        assert back == digest("one")
        assert place.deploy("one", built=False).action == "released"
    assert client.failures == []
    assert place.answer() == "one"
    assert place.events()[-1] == "returned"
    assert place.projects() == {project("one")}
    assert place.images() == {digest("one"), digest("two")}


@pytest.mark.parametrize(("version", "check"), [("sick", "answers 500"), ("wrong", "status 1")])
def test_a_release_that_fails_a_check_never_gets_a_request(place: Place, version: str, check: str) -> None:
    """The previous one serves throughout; containers and image of the failed one are gone."""
    place.deploy("one")
    with asking(place.port) as client:
        failed = place.deploy(version)
        until(lambda: client.answers["one"] > 5)
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert check in failed.checks[-1].detail
    assert (client.failures, set(client.answers)) == ([], {"one"})
    assert place.projects() == {project("one")}
    assert place.images() == {digest("one")}


def test_a_release_that_dies_while_it_is_watched_is_rolled_back(place: Place) -> None:
    """The previous one still runs, and takes every connection that the dead one does not."""
    place.deploy("one")
    with asking(place.port) as client, ThreadPoolExecutor(1) as pool:
        deployment = pool.submit(place.deploy, "two", watch_s=60)
        until(lambda: client.answers["two"] > 5, 120)
        die(place.files.observed().backends[digest("two")].address)
        failed = deployment.result()
        before = client.answers["one"]
        until(lambda: client.answers["one"] > before + 5)
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert "is exited (status 3)" in failed.checks[-1].detail
    assert len(client.failures) <= 1  # who was being answered when it died
    assert place.projects() == {project("one")}
    assert place.events()[-2:] == ["switching", "rolled_back"]


def test_a_release_that_does_not_come_up_says_what_it_printed(place: Place) -> None:
    """The engine's answer and the containers' last words are in the check; nothing is left."""
    Path(str(place.table["file"])).write_text(FILE.replace('"${TTA_PORT}"', '"no number"'))
    failed = place.deploy("one")
    assert (failed.action, failed.previous) == ("rolled_back", None)
    assert "invalid literal for int" in failed.checks[-1].detail
    assert place.projects() == set()


def test_a_deployment_killed_after_its_switch_is_seen_to_its_end(place: Place) -> None:
    """The same deployment again finds both running, keeps the new one, and ends the old."""
    place.deploy("one")
    with asking(place.port) as client:
        killed = get_context("fork").Process(target=killed_after_switch, args=(place,))
        killed.start()
        killed.join(120)
        assert killed.exitcode == -signal.SIGKILL
        assert place.events()[-1] == "switching"
        assert place.deploy("two").action == "unchanged"
        until(lambda: client.answers["two"] > 5)
    assert client.failures == []
    assert place.projects() == {project("two")}
    assert place.events()[-2:] == ["switching", "released"]


def test_two_deployments_at_once_leave_one_release(place: Place) -> None:
    """They come one after the other, and the history tells both."""
    place.deploy("one")
    with asking(place.port) as client, ThreadPoolExecutor(2) as pool:
        done = [pool.submit(place.deploy, version) for version in ("two", "three")]
        assert {each.result().action for each in done} == {"released"}
    assert client.failures == []
    assert place.events() == ["switching", "released"] * 3
    assert place.projects() == {f"tta-shop-production-{(place.store.current() or '')[:12]}"}


def test_what_does_not_build_says_why(place: Place) -> None:
    """The engine's own message comes with what to do about it."""
    with pytest.raises(DeploymentFailed, match=r"(?s)docker build .* failed: .*Mend the component's dependencies"):
        place.deploy("one", image={"name": "tta-test", "base": "localhost:1/nothing"})


def test_it_keeps_the_contract() -> None:
    """The deployer is a Deployer."""
    assert isinstance(ComposeDeployer(), Deployer)


def killed_after_switch(place: Place) -> None:
    """Deploy, and die where the watch would begin."""
    compose._ComposePlatform.verify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]
    place.deploy("two")
