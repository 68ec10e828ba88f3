"""Hostile examples, a few of each kind (``make hostile`` tries ten thousand), and that what they break is noticed."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.hostile.__main__ import PRIVATE, SHARES, batches
from tests.hostile.batch import Batch, Tally
from tests.hostile.kinds import KINDS, Kind
from tests.hostile.places import Place
from tests.hostile.zone import Zone
from workers.sandbox import detect_sandbox

ROOT = Path(__file__).parents[2]


@pytest.fixture
def zone(tmp_path: Path) -> Iterator[Zone]:
    with Zone(tmp_path / "zone") as made:
        yield made


@pytest.fixture
def others() -> Callable[[], frozenset[int]]:
    """Processes that this session has started for other tests."""
    pids = frozenset(child.pid for child in psutil.Process().children(recursive=True))
    return lambda: pids


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hostile_examples_stay_in_their_box() -> None:
    """Nothing outside changes or is read, no secret comes back, no worker ends, and nothing unforeseen is raised."""
    if (level := detect_sandbox().level) not in PRIVATE:
        pytest.skip(f"this host's sandbox is {level}")
    argv = [sys.executable, "-m", "tests.hostile", "--seed", "12", "--examples", "300", "--processes", "2"]
    done = subprocess.run(argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "different examples, 33 of them through a real stage" in done.stdout


def test_as_many_as_asked_for_are_planned() -> None:
    """Ten thousand examples by default, at least a thousand of them through a real stage; no seed is used twice."""
    made = batches(SHARES, 3)
    assert sum(batch.count for batch in made) == 10_000
    assert sum(batch.count for batch in made if KINDS[batch.kind].stage) >= 1_000
    assert len({(batch.kind, batch.seed) for batch in made}) == len(made)


def _write(place: Place) -> None:
    place.zone.path("file").write_text("owned")


def _read(place: Place) -> None:
    place.zone.path("ssh").read_text()


def _create(place: Place) -> None:
    (place.zone.path("folder") / "owned").touch()


def _chmod(place: Place) -> None:
    place.zone.path("other").chmod(0o777)


def _show(place: Place) -> None:
    place.said.append(f"it says {place.zone.secret}")


def _pack(place: Place) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("module.py", f"# {place.zone.secret}\n" * 20)
    place.said.append(packed.getvalue())


def _keep(place: Place) -> None:
    (place.folder / "kept").write_text(place.zone.secret)


def _call(place: Place) -> None:
    socket.create_connection(("127.0.0.1", place.zone.port)).close()
    while not place.zone.calls:
        pass


def _stay(_place: Place) -> None:
    os.posix_spawn("/bin/sleep", ["sleep", "600"], {})


def _raise(_place: Place) -> None:
    raise KeyError("shape")


@pytest.mark.parametrize(
    ("deed", "noticed"),
    [
        (_write, "changed: canaries/file.py"),
        (_read, "read: home/.ssh/id_ed25519"),
        (_create, "appeared: canaries/owned"),
        (_chmod, "changed: neighbour/src/module.py"),
        (_show, "secret: in what came back"),
        (_pack, "secret: in what came back"),
        (_keep, "secret: in kept"),
        (_call, "called: a listener of the host, 1 times"),
        (_stay, "left: a process, sleep"),
        (_raise, "unforeseen: KeyError: 'shape'"),
    ],
)
def test_each_breach_is_noticed(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    zone: Zone,
    others: Callable[[], frozenset[int]],
    monkeypatch: pytest.MonkeyPatch,
    deed: Callable[[Place], None],
    noticed: str,
) -> None:
    """A product that did one of these things would be found out by the first example."""

    def broken(place: Place, _example: object) -> str:
        deed(place)
        return "done"

    if deed is _read and not zone.tells_reads:
        pytest.skip("this file system does not tell when a file was read")
    monkeypatch.setattr("tests.hostile.batch.GONE_S", 0.2)
    monkeypatch.setitem(KINDS, "trees", Kind(KINDS["trees"].strategy, broken, staff=others))
    tally = Tally("trees", seed=1, count=1)
    (tmp_path / "work").mkdir()
    batch = Batch(tally, tmp_path, Path(sys.executable), tmp_path / "report.json")
    batch.run(zone)
    assert tally.executed == 1
    assert [found["what"] for found in tally.findings if noticed in str(found["what"])]


def test_an_example_that_does_nothing_is_no_finding(
    tmp_path: Path, zone: Zone, others: Callable[[], frozenset[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at does not change by being looked at; as many different examples are tried as asked for."""
    monkeypatch.setitem(KINDS, "trees", Kind(KINDS["trees"].strategy, lambda _place, _example: "nothing", staff=others))
    tally = Tally("trees", seed=1, count=20)
    (tmp_path / "work").mkdir()
    Batch(tally, tmp_path, Path(sys.executable), tmp_path / "report.json").run(zone)
    assert (tally.executed, tally.findings, dict(tally.ended)) == (20, [], {"nothing": 20})
