"""The deployer of docs/how-to/write-an-engine.md, as it stands there: real wheels, a real folder."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.deployers.shop import SHOP, Wheels, digest
from tta_tasks.errors import DeploymentFailed
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.deployers.release_store import ReleaseStore
from workers.sandbox import detect_sandbox

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-engine.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page's section on deployers."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## A deployer\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    """The example, imported from a file of its documented name."""
    (source,) = blocks("python")
    path = tmp_path / "folder_deployer.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("folder_deployer", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["folder_deployer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["folder_deployer"]


class Place:
    """An environment of the documented deployer."""

    def __init__(self, folder: Path, module: ModuleType, wheels: Wheels) -> None:
        entry_point, targets = (tomllib.loads(block) for block in blocks("toml"))
        registered = entry_point["project"]["entry-points"]["tta_tasks.deployers"]["folder"]
        self.deployer: Deployer = getattr(module, registered.partition(":")[2])()
        self.table = {
            **targets["environments"]["staging"],
            "path": str(folder / "srv"),
            "folder": str(folder / "wheels"),
        }
        assert self.table.pop("deployer") == self.deployer.name
        self.folder = folder / "wheels"
        self.store = ReleaseStore(folder / "srv" / "shop" / "staging")
        self._wheels = wheels

    def request(self, version: str, *, token: float = 0.0) -> ReleaseRequest:
        """What asks for a version."""
        return ReleaseRequest(
            component=SHOP,
            environment="staging",
            digest=digest(version),
            artifact=self._wheels[version],
            sandbox=detect_sandbox(),
            target=self.table,
            token=token,
        )

    def deploy(self, version: str, *, token: float = 0.0) -> Release:
        """Deploy a version."""
        return self.deployer.release(self.request(version, token=token))

    def holds(self, version: str) -> bool:
        """Whether the folder holds the wheel of a version, and nothing else."""
        return [path.read_bytes() for path in self.folder.iterdir()] == [self._wheels[version].read_bytes()]


@pytest.fixture
def place(tmp_path: Path, module: ModuleType, wheels: Wheels) -> Place:
    """An empty environment."""
    return Place(tmp_path, module, wheels)


def test_it_satisfies_the_protocol(place: Place) -> None:
    """What the base class gives it is all that a deployer needs."""
    assert isinstance(place.deployer, Deployer)


def test_it_releases_and_rolls_back(place: Place) -> None:
    """The folder holds the current wheel; history, `unchanged` and rollback candidates come with the base class."""
    assert (place.deploy("one").action, place.deploy("two").action) == ("released", "released")
    assert place.holds("two")
    assert place.deploy("two").action == "unchanged"
    assert list(place.deployer.releases("shop", "staging", place.table)) == [digest("one")]
    assert place.deploy("one").action == "released"
    assert place.holds("one")
    history = place.deployer.history("shop", "staging", place.table)
    assert [entry.what for entry in history.entries] == ["switching", "released"] * 3
    assert history.current == digest("one")


def test_a_check_that_fails_brings_the_previous_release_back(
    place: Place, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is not the wheel is found after the activation, and replaced by the previous release."""
    place.deploy("one")
    activate = module.FolderPlatform.activate

    def torn(platform: object, release: str | None, previous: str | None) -> None:
        activate(platform, release, previous)
        if release == digest("two"):
            next(place.folder.iterdir()).write_bytes(b"half")

    monkeypatch.setattr(module.FolderPlatform, "activate", torn)
    failed = place.deploy("two")
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert "is not the wheel of the release" in failed.checks[-1].detail
    assert place.holds("one")
    assert place.store.releases() == [digest("one")]


def test_an_older_deployment_is_refused(place: Place) -> None:
    """The fence comes with the base class."""
    place.deploy("one", token=100.0)
    place.deploy("two", token=200.0)
    with pytest.raises(DeploymentFailed, match="begun later has come before"):
        place.deploy("one", token=100.0)
    assert place.holds("two")


def test_an_interrupted_deployment_is_completed_by_the_next(place: Place) -> None:
    """A switch without an outcome in the history is activated and verified again."""
    place.deploy("one")
    place.deploy("two")
    place.store.record("switching", digest("one"), digest("two"))
    place.store.set_current(digest("one"))
    assert place.deploy("one").action == "unchanged"
    assert place.holds("one")
    assert place.store.history()[-1].what == "released"


def test_promotion_asks_and_changes_nothing(place: Place) -> None:
    """A folder that somebody emptied is seen, and stays empty."""
    place.deploy("one")
    assert all(check.ok for check in place.deployer.check(place.request("one")))
    for wheel in place.folder.iterdir():
        wheel.unlink()
    assert not all(check.ok for check in place.deployer.check(place.request("one")))
    assert list(place.folder.iterdir()) == []
