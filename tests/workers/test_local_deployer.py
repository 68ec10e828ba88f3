"""The local deployer with real wheels and virtual environments: release, check, switch, roll back, heal."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Component, Module
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.component.wheels import Wheels, release_digest
from workers.deployers.local import LocalDeployer
from workers.deployers.release_store import MAX_HISTORY, ReleaseStore
from workers.deployers.targets import load_target
from workers.sandbox import detect_sandbox

COMPONENT = Component(name="calc", modules=(Module(name="calc.core", path="src/calc/core.py"),), import_root="src")
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "calc"
version = "1.0"

[project.scripts]
calc = "calc.core:main"

[tool.hatch.build.targets.wheel]
packages = ["src/calc"]
"""
VERSIONS = {
    "one": "def main():\n    print('one')\n",
    "two": "def main():\n    print('two')\n",
    "three": "def main():\n    raise SystemExit('does not start')\n",
    "broken": "import nothing_of_that_name\n",
}


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / path).write_text(text)
    return folder / "tree"


def digest(version: str) -> str:
    return release_digest(version * 64, COMPONENT)


@pytest.fixture(scope="module")
def cache(shared: Path) -> Path:
    """A cache folder for all tests here, whose releases no other tests have."""
    folder = shared / "cache-of-releases"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def wheels(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each version."""
    built = Wheels(cache, detect_sandbox())
    return {
        version: built.build(
            digest(version),
            tree(
                tmp_path_factory.mktemp(version),
                {
                    "pyproject.toml": PROJECT,
                    "src/calc/__init__.py": "import calc.core\n",
                    "src/calc/core.py": source,
                },
            ),
            COMPONENT,
            print,
        )
        for version, source in VERSIONS.items()
    }


class Place:
    """An environment, and how to deploy to it."""

    def __init__(self, path: Path, wheels: Mapping[str, Path]) -> None:
        self.path = path
        self.table: dict[str, object] = {"path": str(path), "keep": 2}
        self.store = ReleaseStore(path / "calc" / "staging")
        self._wheels = wheels

    def deploy(self, version: str, *, token: Any = 0.0, **options: object) -> Release:  # noqa: ANN401 - or an option
        """Deploy a version, with options of the target."""
        return LocalDeployer().release(
            ReleaseRequest(
                component=COMPONENT,
                environment="staging",
                digest=digest(version),
                artifact=self._wheels[version],
                sandbox=detect_sandbox(),
                target={**self.table, **options},
                token=token,
            )
        )

    def runs(self) -> str:
        """What the release in use prints."""
        program = self.store.link / "bin" / "calc"
        return subprocess.run([program], check=True, capture_output=True, text=True).stdout.strip()

    def events(self) -> list[tuple[str, str]]:
        """The history as (what, version)."""
        names = {digest(version): version for version in VERSIONS}
        return [(entry.what, names[entry.release]) for entry in self.store.history()]


@pytest.fixture
def place(tmp_path: Path, cache: Path, wheels: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty environment."""
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    return Place(tmp_path / "srv", wheels)


def test_a_release_runs_from_the_link_and_again_is_unchanged(place: Place) -> None:
    """The link's programs run the release; deploying it again checks it and touches nothing."""
    first = place.deploy("one", check_scripts=True)
    assert (first.action, first.previous, first.location) == ("released", None, str(place.store.link))
    assert [(check.name, check.ok) for check in first.checks] == [("import calc", True), ("calc --help", True)]
    assert place.runs() == "one"
    history, link = place.events(), place.store.link.lstat()
    again = place.deploy("one")
    assert again.action == "unchanged"
    assert [check.ok for check in again.checks] == [True]
    assert (place.events(), place.store.link.lstat()) == (history, link)


def test_an_older_deployment_that_comes_late_is_refused(place: Place) -> None:
    """Delivered again after a newer one, it replaces nothing; the newer one again is fine."""
    place.deploy("one", token=100.0)
    place.deploy("two", token=200.0)
    with pytest.raises(DeploymentFailed, match="begun later has come before"):
        place.deploy("one", token=100.0)
    assert place.runs() == "two"
    assert place.deploy("two", token=200.0).action == "unchanged"
    assert place.events() == [("switching", "one"), ("released", "one"), ("switching", "two"), ("released", "two")]


def test_a_failed_smoke_check_never_reaches_the_link(place: Place) -> None:
    """A release that cannot be imported is not switched to, and is taken away; the check says why."""
    place.deploy("one")
    failed = place.deploy("broken")
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert "No module named 'nothing_of_that_name'" in failed.checks[0].detail
    assert place.runs() == "one"
    assert place.store.releases() == [digest("one")]
    assert place.events()[-1] == ("rolled_back", "broken")


def test_a_failed_health_check_brings_the_previous_release_back(place: Place) -> None:
    """What fails only in use is in use no longer, and the deployer offers what can be gone back to."""
    health = {"command": ["{bin}/calc"]}
    place.deploy("one", health=health)
    place.deploy("two", health=health)
    assert list(LocalDeployer().releases("calc", "staging", place.table)) == [digest("one")]
    failed = place.deploy("three", health=health)
    assert (failed.action, failed.previous) == ("rolled_back", digest("two"))
    assert failed.checks[-1].detail == "status 1: does not start"
    assert place.runs() == "two"
    assert place.events()[-2:] == [("switching", "three"), ("rolled_back", "three")]


def test_without_a_previous_release_none_is_left_in_use(place: Place) -> None:
    """The first release that fails its health check leaves no link behind."""
    failed = place.deploy("three", health={"command": ["{bin}/calc"]})
    assert (failed.action, failed.previous) == ("rolled_back", None)
    assert not place.store.link.is_symlink()
    assert place.store.releases() == []


def test_a_previous_release_that_fails_as_well_is_an_error(place: Place) -> None:
    """When not even the way back holds, that is said, with both reasons."""
    place.deploy("one")
    with pytest.raises(DeploymentFailed, match=r"and the previous one, .*fails its own"):
        place.deploy("two", health={"command": ["/bin/sh", "-c", "exit 7"]})
    assert place.runs() == "one"


def test_a_deployment_killed_after_its_switch_is_healed(place: Place) -> None:
    """The next call sees the switch in the history, checks what is in use, and says what came of it."""
    place.deploy("one")
    place.deploy("two")
    place.store.record("switching", digest("one"), digest("two"))
    place.store.set_current(digest("one"))
    assert place.deploy("one").action == "unchanged"
    assert place.events()[-2:] == [("switching", "one"), ("released", "one")]


def test_a_deployment_killed_after_a_bad_switch_is_taken_back(place: Place) -> None:
    """When what was switched to does not work, the next call starts from the release before it."""
    place.deploy("one")
    place.deploy("two")
    health = {"command": ["{bin}/calc"]}
    place.deploy("three")
    place.store.record("switching", digest("three"), digest("two"))
    release = place.deploy("two", health=health)
    assert release.action == "unchanged"
    assert place.events()[-1] == ("rolled_back", "three")
    assert place.runs() == "two"


def test_a_deployment_killed_before_its_switch_is_told(place: Place) -> None:
    """The link was not touched, so the release in use stays; the history says that the other was interrupted."""
    place.deploy("one")
    place.store.record("switching", digest("two"), digest("one"))
    assert place.deploy("one").action == "unchanged"
    assert place.events()[-1] == ("interrupted", "two")


def test_an_unfinished_release_is_made_again(place: Place) -> None:
    """Half an installation, as a killed worker leaves it, is not taken for a release."""
    half = place.store.folder(digest("one"))
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half")
    assert place.deploy("one").action == "released"
    assert place.runs() == "one"


def test_a_release_that_was_damaged_is_made_again(place: Place) -> None:
    """The release in use is checked though it is unchanged, and made again when it no longer works."""
    place.deploy("one")
    for module in place.store.folder(digest("one")).glob("lib/*/site-packages/calc/core.py"):
        module.unlink()
    assert place.deploy("one").action == "released"
    assert place.runs() == "one"


def test_old_releases_go_but_never_the_one_to_return_to(place: Place) -> None:
    """Only as many as asked for are kept; the release in use and the previous one always are."""
    for version in ("one", "two", "three"):
        place.deploy(version, keep=1)
    assert place.store.releases() == [digest("three"), digest("two")]


def test_the_history_is_bounded(tmp_path: Path) -> None:
    """The oldest lines are forgotten."""
    store = ReleaseStore(tmp_path)
    for number in range(MAX_HISTORY + 5):
        store.record("released", f"{number:064x}", None)
    assert [len(store.history()), store.history()[0].release] == [MAX_HISTORY, f"{5:064x}"]


def test_a_line_of_history_that_cannot_be_read_is_reported_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fields of a later version are ignored; an unreadable line costs neither the others nor itself."""
    store = ReleaseStore(tmp_path)
    store.record("switching", "a" * 64, None)
    path = tmp_path / "history.jsonl"
    line = json.loads(path.read_text())
    assert line["version"] == 1
    path.write_text(f"{json.dumps({**line, 'version': 2, 'colour': 'red'})}\nhalf a li\n")
    store.record("released", "a" * 64, None)
    caplog.clear()
    assert [entry.what for entry in store.history()] == ["switching", "released"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the history leaves out what cannot be read (line 2)."
    ]
    assert path.read_text().splitlines()[1] == "half a li"


def test_a_fence_that_cannot_be_read_is_one_message(place: Place) -> None:
    """Nothing is deployed past a fencing token that is not known; the message says what to do."""
    place.deploy("one", token=1.0)
    (place.store.base / "fence").write_text("torn")
    with pytest.raises(DeploymentFailed, match=r"fence does not hold the token.*Remove it"):
        place.deploy("two", token=2.0)
    assert place.runs() == "one"


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """A server that answers with each status of a list in turn, and with the last one from then on."""
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/", statuses
        listening.shutdown()
        thread.join()


def test_a_url_is_asked_until_it_is_well(place: Place, server: tuple[str, list[int]]) -> None:
    """A service that needs a moment is given it; one that stays ill fails the check with its answer."""
    url, statuses = server
    statuses[:] = [503, 503, 204]
    health = {"url": url, "interval_s": 0.01, "timeout_s": 20}
    assert place.deploy("one", health=health).action == "released"
    statuses[:] = [500]
    with pytest.raises(DeploymentFailed, match="answers 500"):
        place.deploy("two", health={**health, "timeout_s": 0.05})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "relative"}, "path: Value error, must be an absolute path"),
        ({"keep": 0}, "keep: "),
        ({"health": {}}, "health: Value error, name either a command or a url"),
        ({"health": {"url": "file:///etc/passwd"}}, "health.url: "),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"path": "/proc/nowhere"}, "cannot be written to /proc/nowhere/calc/staging"),
    ],
)
def test_a_target_that_does_not_hold_is_refused(place: Place, options: dict[str, object], said: str) -> None:
    """Each mistake in the table is named, and nothing is deployed."""
    with pytest.raises(DeploymentFailed, match=said):
        place.deploy("one", **options)


def test_targets_come_from_the_workers_file(tmp_path: Path) -> None:
    """A table gives the deployer's name and its own options; what is missing is said with a way out."""
    file = tmp_path / "targets.toml"
    file.write_text('[environments.staging]\npath = "/srv"\n')
    target = load_target(file, "staging", "calc")
    assert (target.deployer, target.own) == ("local", {"path": "/srv"})
    with pytest.raises(DeploymentFailed, match=r"no environment 'production' here; there is: staging\. Add a table"):
        load_target(file, "production", "calc")
    with pytest.raises(DeploymentFailed, match="TTA_TARGETS_FILE"):
        load_target(None, "staging", "calc")
    with pytest.raises(DeploymentFailed, match="cannot be read"):
        load_target(tmp_path / "nowhere.toml", "staging", "calc")
    file.write_text("environments = 1\n")
    with pytest.raises(DeploymentFailed, match="does not hold: environments"):
        load_target(file, "staging", "calc")


def test_plain_modules_are_given_what_a_wheel_needs(tmp_path: Path, cache: Path) -> None:
    """Modules nobody thought of as a distribution build all the same, with their requirements; and only once."""
    files = {"lib/tool.py": "X = 1\n", "lib/other.py": "", "requirements.txt": "-i https://x\nidna>=3  # names\n"}
    component = Component(name="tool_", modules=(Module(name="tool", path="lib/tool.py"),), import_root="lib")
    wheels = Wheels(cache, detect_sandbox())
    wheel = wheels.build("a" * 64, tree(tmp_path, files), component, print)
    assert wheel.name == "tool-0+aaaaaaaaaaaa-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if "/" not in name] == ["tool.py"]
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert "Requires-Dist: idna>=3" in metadata
    assert wheels.find("a" * 64) == wheel


def test_the_same_tree_builds_the_same_wheel(tmp_path: Path, wheels: dict[str, Path]) -> None:
    """Two hosts that build a release get the same bytes."""
    files = {
        "pyproject.toml": PROJECT,
        "src/calc/__init__.py": "import calc.core\n",
        "src/calc/core.py": VERSIONS["one"],
    }
    elsewhere = Wheels(tmp_path / "cache", detect_sandbox())
    wheel = elsewhere.build(digest("one"), tree(tmp_path, files), COMPONENT, print)
    assert wheel.read_bytes() == wheels["one"].read_bytes()


def test_what_does_not_build_says_why(tmp_path: Path, cache: Path) -> None:
    """The build's own message comes with what to do about it."""
    files = {"pyproject.toml": PROJECT.replace("hatchling.build", "hatchling.nowhere")}
    with pytest.raises(DeploymentFailed, match=r"(?s)does not build: .*nowhere.*Make `uv build --wheel` work"):
        Wheels(cache, detect_sandbox()).build("b" * 64, tree(tmp_path, files), COMPONENT, print)


def test_it_keeps_the_contract() -> None:
    """The local deployer is a Deployer."""
    assert isinstance(LocalDeployer(), Deployer)
