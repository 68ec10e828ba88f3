"""Releases that are services, on this host, behind one public address: real processes, real requests all the while."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deployers.place import Place
from tests.deployers.shop import Wheels, asking, die, digest, until
from tta_tasks.errors import DeploymentFailed
from workers.deployers import local
from workers.deployers.local import LocalDeployer
from workers.deployers.serving.states import ObservedState, StateFiles, split


@pytest.fixture
def place(tmp_path: Path, cache: Path, wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty environment."""
    monkeypatch.setenv("TTA_CACHE_DIR", str(cache))
    place = Place(tmp_path / "srv", wheels)
    yield place
    place.end()


def test_releases_follow_each_other_without_a_failed_request(place: Place) -> None:
    """A client that requests all the while notices nothing but another answer; the old release is gone afterwards."""
    first = place.deploy("one")
    assert (first.action, first.location) == ("released", f"tcp://127.0.0.1:{place.port}")
    with asking(place.port) as client:
        until(lambda: client.answers["one"] > 5)
        assert place.deploy("two").action == "released"
        until(lambda: client.answers["two"] > 5)
    assert client.failures == []
    assert set(client.answers) == {"one", "two"}
    assert place.running() == {digest("two")}
    assert place.deploy("two").action == "unchanged"


@pytest.mark.slow
@pytest.mark.parametrize(("version", "check"), [("sick", "answers 500, for 3 s"), ("wrong", "status 1")])
def test_a_release_that_fails_a_check_never_gets_a_request(place: Place, version: str, check: str) -> None:
    """It is asked on a port of its own; clients are answered by the previous one throughout."""
    place.deploy("one")
    with asking(place.port) as client:
        failed = place.deploy(version)
        until(lambda: client.answers["one"] > 5)
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert check in failed.checks[-1].detail
    assert (client.failures, set(client.answers)) == ([], {"one"})
    assert place.running() == {digest("one")}


def test_a_release_that_dies_while_it_is_watched_is_rolled_back(place: Place) -> None:
    """The previous one still runs, and takes every connection that the dead one does not."""
    place.deploy("one")
    with asking(place.port) as client, ThreadPoolExecutor(1) as pool:
        deployment = pool.submit(place.deploy, "two", watch_s=60)
        until(lambda: client.answers["two"] > 5)
        die(place.address("two"))
        failed = deployment.result()
        before = client.answers["one"]
        until(lambda: client.answers["one"] > before + 5)
    assert (failed.action, failed.previous) == ("rolled_back", digest("one"))
    assert "it ended: status 3" in failed.checks[-1].detail
    # Whoever is being answered when it dies goes without: of a client that asks one after another, one at most.
    assert len(client.failures) <= 1
    assert place.running() == {digest("one")}
    assert place.events()[-2:] == ["switching", "rolled_back"]


@pytest.mark.slow
def test_a_public_address_that_is_taken_is_said(place: Place) -> None:
    """Nothing is released that nobody could reach, and nothing is left running."""
    with socket.create_server(("127.0.0.1", place.port)):
        failed = place.deploy("one")
    assert (failed.action, failed.previous) == ("rolled_back", None)
    assert re.search(r"127\.0\.0\.1:\d+ cannot be listened on.*Free the address", failed.checks[-1].detail)
    assert place.running() == set()
    assert place.deploy("two").action == "released"
    assert place.answer() == "two"


@pytest.mark.slow
def test_what_is_served_ends_with_its_supervisor_and_comes_back(place: Place) -> None:
    """No service is orphaned by a supervisor that was killed; the same deployment again brings it back."""
    place.deploy("one")
    address = place.address("one")
    os.kill(place.files.observed().pid, signal.SIGKILL)
    until(place.files.unsupervised)
    until(lambda: refused(address))
    assert place.deploy("one").action == "unchanged"
    assert place.answer() == "one"


@pytest.mark.slow
def test_a_desired_state_that_cannot_be_read_stops_nothing(place: Place) -> None:
    """Deployments say what is wrong and what to do; what runs goes on, and the supervisor reports it, too."""
    place.deploy("one")
    place.files.desired_path.write_text('{"public": 1}')
    until(lambda: "public: Input should be a valid string" in place.files.observed().error)
    with pytest.raises(DeploymentFailed, match=r"desired-state\.json cannot be read: public: .*Remove it"):
        place.deploy("two")
    assert place.answer() == "one"
    place.files.desired_path.unlink()
    assert place.deploy("two").action == "released"
    place.files.observed_path.unlink()
    until(place.files.observed_path.exists)
    assert place.answer() == "two"


def test_states_of_another_version_are_read_as_far_as_they_are_known(tmp_path: Path) -> None:
    """Fields that this version does not know are ignored, nested ones too; missing ones have their default."""
    files = StateFiles(tmp_path)
    assert (files.desired(), files.observed()) == (None, ObservedState())
    backend = {"release": "a" * 64, "address": "127.0.0.1:1", "weight": 3}
    files.desired_path.write_text(
        json.dumps({"version": 2, "public": "127.0.0.1:80", "backends": [backend], "tls": {}})
    )
    state = files.desired()
    assert state is not None
    assert (state.version, state.public, state.backends[0].address) == (2, "127.0.0.1:80", "127.0.0.1:1")
    files.write_desired(state)
    assert json.loads(files.desired_path.read_text())["version"] == 2
    files.observed_path.write_text("half a st")
    with pytest.raises(DeploymentFailed, match=r"observed-state\.json cannot be read: .*Remove it"):
        files.observed()


@pytest.mark.slow
def test_a_service_that_dies_later_is_started_again(place: Place) -> None:
    """Clients that connect meanwhile wait for it."""
    place.deploy("one")
    with asking(place.port) as client:
        die(place.address("one"))
        until(lambda: place.files.observed().backends[digest("one")].exits == 1)
        before = client.answers["one"]
        until(lambda: client.answers["one"] > before + 5)
    assert len(client.failures) <= 1  # who was being answered when it died


@pytest.mark.slow
def test_what_a_service_prints_is_kept_and_it_may_write_to_its_data(place: Place) -> None:
    """Its log is beside its releases; its data is the same folder for the next release."""
    write = "import os, sys; open(sys.argv[1] + '/note', 'a').write('x'); os.execv(sys.argv[2], sys.argv[2:])"
    serve = {**place.serve, "command": ["{python}", "-c", write, "{data}", "{bin}/shop", "{port}"]}
    place.deploy("one", serve=serve)
    place.deploy("two", serve=serve)
    assert (place.files.data / "note").read_text() == "xx"
    assert (place.files.logs / f"{digest('two')[:12]}.log").read_text() == "serving two\n"


@pytest.mark.slow
def test_going_back_twice_goes_back_two_releases(place: Place) -> None:
    """What was gone back from is not what is gone back to next."""
    for version in ("one", "two", "three"):
        place.deploy(version)
    deployer = LocalDeployer()
    for version, left in (("two", ["one"]), ("one", [])):
        back = next(iter(deployer.releases("shop", "production", place.table)))
        request = dataclasses.replace(place.request(version), artifact=None, back=True)
        assert back == request.digest
        assert deployer.release(request).action == "released"
        assert place.answer() == version
        assert list(deployer.releases("shop", "production", place.table)) == [digest(each) for each in left]
    assert deployer.history("shop", "production", place.table).entries[-1].what == "returned"


@pytest.mark.slow
def test_a_deployment_killed_after_its_switch_is_seen_to_its_end(place: Place) -> None:
    """Both releases still run then; the same deployment again watches the new one, and ends the old."""
    place.deploy("one")
    with asking(place.port) as client:
        killed = multiprocessing.get_context("fork").Process(target=killed_after_switch, args=(place,))
        killed.start()
        killed.join(60)
        assert killed.exitcode == -signal.SIGKILL
        assert place.events()[-1] == "switching"
        assert place.running() == {digest("one"), digest("two")}
        until(lambda: client.answers["two"] > 5)
        assert place.deploy("two", watch_s=0.5).action == "unchanged"
    assert client.failures == []
    assert place.running() == {digest("two")}
    assert place.events()[-2:] == ["switching", "released"]


@pytest.mark.slow
def test_two_deployments_at_once_leave_one_release(place: Place) -> None:
    """They come one after the other, and the history tells both."""
    place.deploy("one")
    with asking(place.port) as client, ThreadPoolExecutor(2) as pool:
        done = [pool.submit(place.deploy, version) for version in ("two", "three")]
        assert {each.result().action for each in done} == {"released"}
    assert client.failures == []
    current = place.store.current()
    assert place.running() == {current}
    assert place.events() == ["switching", "released"] * 3
    assert place.store.history()[-1].release == current


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"health": None}, "need `health`"),
        ({"serve": {"command": [], "public": "127.0.0.1:80"}}, r"serve\.command: "),
        ({"serve": {"command": ["x"], "public": "80"}}, r"serve\.public: "),
    ],
)
def test_a_target_that_cannot_serve_is_refused(place: Place, options: dict[str, object], said: str) -> None:
    """Each mistake in the table is named, and nothing is deployed."""
    with pytest.raises(DeploymentFailed, match=said):
        place.deploy("one", **options)


def killed_after_switch(place: Place) -> None:
    """Deploy, and die where the watch would begin."""
    local._ServicePlatform.verify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]
    place.deploy("two")


def refused(address: str) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(split(address)).close()
    except ConnectionRefusedError:
        return True
    return False
