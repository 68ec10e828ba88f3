"""Control groups of commands, where the host gives one away."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.confined import AVAILABLE, eventually, processes
from tta_tasks.protocols import Limits
from workers.sandbox import ProcessSandbox, groups


@pytest.fixture
def parent() -> Iterator[Path]:
    """A group of this test's own, as far as this host lets us make one; whatever is in it goes with it."""
    own = None
    with contextlib.suppress(OSError, ValueError):
        own = groups._own()
    path = (own or Path("/nowhere")) / f"test-{uuid.uuid4().hex}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    yield path
    groups._remove(path)


def test_a_group_that_was_not_delegated_is_left_alone() -> None:
    """Being allowed to write to it, as root is, is not enough."""
    own = None
    with contextlib.suppress(OSError, ValueError):
        own = groups._own()
    marked = own is not None and any(groups._marked(own.parent, mark) for mark in groups.MARKS)
    assert (groups.delegated() is not None) == marked


@pytest.mark.parametrize("level", AVAILABLE)
def test_a_command_runs_in_its_group(level: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each level; the group is gone after it, and the descriptor that leads into it is not the command's."""
    monkeypatch.setattr(groups, "delegated", lambda: parent)
    program = "cat /proc/self/cgroup; ls -l /proc/self/fd"
    done = ProcessSandbox(level).run(["sh", "-c", program], cwd=tmp_path)
    assert done.ok, done.stderr
    assert groups.PREFIX in done.stdout or level == "bubblewrap"  # which hides where it is
    assert "cgroup.procs" not in done.stdout
    assert [path for path in parent.iterdir() if path.is_dir()] == []


def test_all_of_a_group_ends(parent: Path, tmp_path: Path) -> None:
    """What is in it ends with it, whatever it is the child of."""
    marker = tmp_path / uuid.uuid4().hex
    with groups.below(parent, Limits(memory_bytes=1 << 30, processes=7)) as group:
        stray = subprocess.Popen(["/bin/sh", "-c", "sleep 300; :", "sh", marker], start_new_session=True)
        (group.path / "cgroup.procs").write_text(str(stray.pid))
        for name, value in (("memory.max", "1073741824"), ("pids.max", "15")):
            if (group.path / name).exists():
                assert (group.path / name).read_text().strip() == value
    assert stray.wait() == -9
    assert eventually(lambda: processes(marker) == [])
    assert not group.path.exists()
