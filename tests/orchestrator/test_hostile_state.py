"""Repositories that bring a state folder of their own: nothing of it is used, and nothing is written through it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.local.broker import find_server

pytestmark = pytest.mark.stack

TTA = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
CANARY = "the user's own words\n"
TARGETS = '[environments.production]\ndeployer = "compose"\nfile = "compose.yml"\n'

#: What a repository puts into its `.tta`, given a folder of the user's elsewhere.
Brings = Callable[[Path, Path], None]


def links_gitignore(state: Path, home: Path) -> None:
    (state / ".gitignore").symlink_to(home / "canary")


def links_targets(state: Path, home: Path) -> None:
    (state / "targets.toml").symlink_to(home / "not-there-yet")


def links_stack(state: Path, home: Path) -> None:
    (state / "failure.txt").symlink_to(home / "canary")
    (state / "stack.json").symlink_to(home / "canary")


def links_logs(state: Path, home: Path) -> None:
    (state / "logs").symlink_to(home)
    (state / "README").write_text("")


def chooses_targets(state: Path, home: Path) -> None:  # noqa: ARG001 - as the others
    (state / "targets.toml").write_text(TARGETS)


def plants_ledger(state: Path, home: Path) -> None:
    """Data of a server that ran elsewhere, with a key in it."""
    data, at = state / "valkey", home / "planted.sock"
    data.mkdir()
    configuration = f'port 0\nunixsocket "{at}"\ndir "{data}"\nsave ""\nappendonly yes\n'
    server = subprocess.Popen([str(find_server()), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert server.stdin is not None
    server.stdin.write(configuration.encode())
    server.stdin.close()
    with redis.Redis(unix_socket_path=str(at)) as client:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(redis.ConnectionError):
                client.set("planted", "1")
                break
            assert time.monotonic() < until
            time.sleep(0.02)
        client.shutdown(save=False)
    server.wait()


def pipes_targets(state: Path, home: Path) -> None:  # noqa: ARG001 - as the others
    os.mkfifo(state / "targets.toml")


BROUGHT = [
    chooses_targets,
    plants_ledger,
    *(
        pytest.param(each, marks=pytest.mark.slow)
        for each in (links_gitignore, links_targets, links_stack, links_logs, pipes_targets)
    ),
]


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that is below ``folder``, links not followed: change time and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.readlink().as_posix().encode() if path.is_symlink() else b""
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = (status.st_ctime_ns, content)
    return found


def tta(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``tta ARGS`` there; a stack that it starts is ended."""
    environment = {**os.environ, "TTA_CACHE_DIR": str(folder.parent / "cache"), "NO_COLOR": "1", **env}
    done = subprocess.run(
        [*TTA, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr + done.stdout
    if args[0] == "up" and done.returncode == 0:
        subprocess.run([*TTA, "down"], cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    return done


def git(folder: Path, *args: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *args],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of the user's, with a file that nobody else may touch."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "canary").write_text(CANARY)
    return folder


@pytest.fixture(params=["cloned", "unpacked"])
def bring(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[Callable[[Brings], Path]]:
    """What makes the user's copy of a repository that brings a `.tta`: cloned by git, or unpacked from an archive."""

    def make(brings: Brings) -> Path:
        origin, copy = tmp_path / "origin", tmp_path / "copy"
        (origin / ".tta").mkdir(parents=True, mode=0o700)
        brings(origin / ".tta", home)
        if request.param == "cloned":
            if brings is pipes_targets:
                pytest.skip("git keeps no pipes")
            git(origin, "init", "--quiet")
            git(origin, "add", "--force", "--all")
            git(origin, "commit", "--quiet", "--message", "Begin")
            git(tmp_path, "clone", "--quiet", str(origin), str(copy))
        else:
            shutil.copytree(origin, copy, symlinks=True, copy_function=_copied)
        return copy

    yield make
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)


def _copied(source: str, target: str, **_: object) -> None:
    if not os.path.isfile(source):  # noqa: PTH113 - a pipe
        os.mkfifo(target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


@pytest.mark.parametrize("brings", BROUGHT)
def test_a_state_folder_of_the_repositorys_is_not_used(
    bring: Callable[[Brings], Path], home: Path, brings: Brings
) -> None:
    """Each command that would use it ends with one message; nothing in it or elsewhere has changed."""
    repository = bring(brings)
    before = everything(repository / ".tta"), everything(home)
    commands = [["up", "--slots", "1"], *([["list"], ["down"]] if brings is chooses_targets else [])]
    ended = [tta(repository, *command) for command in commands]
    assert (home / "canary").read_text() == CANARY
    assert everything(home) == before[1]
    assert everything(repository / ".tta") == before[0]
    for done in ended:
        assert done.returncode == 2, done.stdout + done.stderr
        assert "The state folder" in done.stderr
        assert "is not used" in done.stderr
        assert "TTA_STATE_DIR" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 2


def test_the_message_names_a_way_out(tmp_path: Path) -> None:
    """With a state folder elsewhere, what the repository brought is left alone."""
    repository = tmp_path / "copy"
    (repository / ".tta").mkdir(parents=True, mode=0o700)
    chooses_targets(repository / ".tta", tmp_path)
    assert tta(repository, "up", "--slots", "1", TTA_STATE_DIR=str(tmp_path / "own")).returncode == 0
    assert (tmp_path / "own" / "targets.toml").read_text() != TARGETS


def test_a_broker_of_the_repositorys_is_not_connected_to(tmp_path: Path) -> None:
    """A `stack.json` that came with a repository, and a process that holds its lock, send no producer anywhere."""
    state = tmp_path / "copy" / ".tta"
    state.mkdir(parents=True, mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as broker, (state / "supervisor.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        url = f"redis://127.0.0.1:{broker.getsockname()[1]}/0"
        stored = {"pid": os.getpid(), "broker_url": url, "slots": 1, "kept": True, "started_at": time.time()}
        (state / "stack.json").write_text(json.dumps(stored))
        broker.settimeout(0.2)
        program = "from tta_tasks.celery import app; app.control.ping(timeout=1)"
        for command in ([*TTA, "list"], [sys.executable, "-P", "-c", program]):
            with subprocess.Popen(
                command, cwd=state.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as producer:
                while producer.poll() is None:
                    with contextlib.suppress(TimeoutError):
                        connection, _ = broker.accept()
                        connection.close()
                        producer.kill()
                        pytest.fail("it connected")
                assert producer.stdout is not None
                assert "is not used" in producer.stdout.read()


def test_files_that_a_later_commit_brings_are_not_used(tmp_path: Path) -> None:
    """A state folder of ours into which a checkout puts targets is refused as long as git tracks them."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch", "main")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Begin")
    assert tta(repository, "up", "--slots", "1").returncode == 0
    ours = (repository / ".tta" / "targets.toml").read_text()
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(repository), str(other))
    (other / ".tta").mkdir()
    (other / ".tta" / "targets.toml").write_text(TARGETS)
    git(other, "add", "--force", ".tta")
    git(other, "commit", "--quiet", "--message", "Targets of mine")
    git(repository, "pull", "--quiet", str(other))
    assert (repository / ".tta" / "targets.toml").read_text() != ours  # git overwrites what it was told to ignore
    done = tta(repository, "up", "--slots", "1")
    assert done.returncode == 2
    assert "git tracks it" in done.stderr


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_is_adopted(tmp_path: Path) -> None:
    """Its runs are there again after `tta adopt`, which asks first."""
    assert tta(tmp_path, "up", "--slots", "1").returncode == 0
    (tmp_path / ".tta" / "mark").unlink()
    refused = tta(tmp_path, "list")
    assert f"tta adopt {tmp_path / '.tta'}" in refused.stderr
    shown = tta(tmp_path, "adopt", ".tta")  # nobody answers
    assert shown.returncode != 0
    assert "targets.toml" in shown.stdout
    assert tta(tmp_path, "list").returncode == 2
    assert tta(tmp_path, "adopt", ".tta", "--yes").returncode == 0
    assert tta(tmp_path, "up", "--slots", "1").returncode == 0
