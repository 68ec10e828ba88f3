"""Throwaway folders: gone with their block, and with their process when that is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.sandbox import tempdirs

#: Makes a folder, tells its name, and stays.
HOLDER = """
import sys, time
from pathlib import Path
from workers.sandbox import tempdirs
with tempdirs.create(Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a folder below the test's."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_folder_is_gone_with_its_block(tmp_path: Path) -> None:
    """Neither it nor its lock is left, even where code has taken its own permissions away."""
    with tempdirs.create(tmp_path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
        (folder / "sub").chmod(0)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_bottom_is_gone_with_its_block(tmp_path: Path, dig: Callable[[Path], None]) -> None:
    """Folders deeper than any path can name, as a test can leave them, keep no worker from going on."""
    with tempdirs.create(tmp_path) as folder:
        dig(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays_as_it_was(tmp_path: Path) -> None:
    """Neither its content nor its permissions change when a folder with links to it is removed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("canary")
    outside.chmod(0o500)
    with tempdirs.create(tmp_path / "work") as folder:
        (folder / "away").symlink_to(outside)
        (folder / "inner").mkdir()
        (folder / "inner" / "away").symlink_to("../../../outside")
        (folder / "inner").chmod(0o500)
    assert outside.stat().st_mode & 0o777 == 0o500
    outside.chmod(0o700)
    assert (outside / "canary").read_text() == "canary"
    assert list((tmp_path / "work").iterdir()) == []


def test_folder_is_reaped_once_its_process_has_died(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """As long as its process lives, it stays."""
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    assert tempdirs.reap(tmp_path) == 0
    assert (folder / "file").exists()
    holder.kill()
    holder.wait()
    assert tempdirs.reap(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_lock_without_a_folder_is_reaped(tmp_path: Path) -> None:
    """A process that died just before it made its folder, or just after it removed it, leaves nothing either."""
    (tmp_path / "abc.lock").touch()
    assert tempdirs.reap(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert tempdirs.reap(tmp_path / "absent") == 0
