"""Folders that settings name are used only when we made them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tta_tasks import folders
from tta_tasks.errors import SettingsError
from tta_tasks.folders import CACHE, STATE, adopt, found, made, mark_of

MAKE = """
import sys
from pathlib import Path
from tta_tasks import folders
sys.stdin.read(1)
print(folders.mark_of(folders.made(Path(sys.argv[1]), folders.STATE)))
"""


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a process's first."""

    class Nothing(set[tuple[Path, int]]):
        def add(self, _: tuple[Path, int]) -> None:
            """Forget it."""

    monkeypatch.setattr(folders, "_looked_at", Nothing())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a repository, which is the current one."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_folder_of_ours_is_private_and_found_again(repository: Path) -> None:
    """It is made for this user only, with a mark, and known to later processes; git sees nothing of it."""
    assert found(Path(".tta"), STATE) is None
    state = made(Path(".tta"), STATE)
    assert state == repository / ".tta"
    assert state.stat().st_mode & 0o777 == 0o700
    assert found(Path(".tta"), STATE) == made(Path(".tta"), STATE) == state
    assert [path.name for path in repository.iterdir()] == [".tta"]
    assert sorted(path.name for path in state.iterdir()) == [".gitignore", "mark"]


def test_many_processes_make_one_folder(repository: Path) -> None:
    """All that start at once get the same folder, and leave nothing else behind."""
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKE, ".tta"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("g")
        maker.stdin.flush()
    assert {maker.communicate()[0].strip() for maker in makers} == {mark_of(repository / ".tta")}
    assert [path.name for path in repository.iterdir()] == [".tta"]


def test_a_moved_folder_is_ours_and_a_copy_is_not(repository: Path) -> None:
    """What moves with its inode is known; what has the mark only may be anybody's."""
    made(Path(".tta"), STATE)
    Path(".tta").rename("moved")
    assert made(Path("moved"), STATE) == repository / "moved"
    shutil.copytree("moved", "copy")
    with pytest.raises(SettingsError, match=r"no record that it was made here.*tta adopt"):
        found(Path("copy"), STATE)
    adopt(Path("copy"), STATE)
    assert found(Path("copy"), STATE) == repository / "copy"
    assert found(Path("moved"), STATE) == repository / "moved"


@pytest.mark.usefixtures("repository")
def test_an_empty_folder_may_be_anybodys() -> None:
    """None comes with a clone, and nothing is in it."""
    Path(".tta").mkdir(mode=0o700)
    assert found(Path(".tta"), STATE) is None
    assert mark_of(made(Path(".tta"), STATE))


@pytest.mark.parametrize("setting", [STATE, CACHE])
def test_a_folder_without_a_record_is_refused(repository: Path, setting: str) -> None:
    """Files, and even a mark, that came with the repository; a message names the setting."""
    (repository / "brought").mkdir(mode=0o700)
    (repository / "brought" / "targets.toml").touch()
    with pytest.raises(SettingsError, match=f"holds no mark of ours.*{setting}"):
        made(Path("brought"), setting)
    (repository / "brought" / "mark").write_text("0" * 32)
    with pytest.raises(SettingsError, match="has no record"):
        made(repository / "brought", setting)
    assert sorted(path.name for path in (repository / "brought").iterdir()) == ["mark", "targets.toml"]


def test_links_are_refused(repository: Path, tmp_path: Path) -> None:
    """The folder, one on the way to it, and what is in it."""
    elsewhere = made(tmp_path / "elsewhere", STATE)
    (repository / "link").symlink_to(elsewhere)
    with pytest.raises(SettingsError, match="is a link to"):
        made(Path("link"), STATE)
    with pytest.raises(SettingsError, match="is a link to"):
        made(Path("link/below"), STATE)
    with pytest.raises(SettingsError, match="is a link to"):
        found(tmp_path / "repository" / "link" / "below", STATE)
    assert sorted(path.name for path in elsewhere.iterdir()) == [".gitignore", "mark"]
    state = made(Path(".tta"), STATE)
    (state / "logs").symlink_to(elsewhere)
    with pytest.raises(SettingsError, match="logs in it is a link"):
        found(Path(".tta"), STATE)


@pytest.mark.usefixtures("repository")
def test_what_others_may_write_to_is_refused() -> None:
    """Its mode is named, with what mends it."""
    state = made(Path(".tta"), STATE)
    state.chmod(0o770)
    with pytest.raises(SettingsError, match=f"others may write to it .mode 770.*chmod go-w {state}"):
        found(Path(".tta"), STATE)


@pytest.mark.usefixtures("repository")
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_another_users_folder_is_refused() -> None:
    """Whoever owns it can change it at any time."""
    state = made(Path(".tta"), STATE)
    os.chown(state, 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        found(Path(".tta"), STATE)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        adopt(Path(".tta"), STATE)


def test_an_operators_folder_needs_no_record(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume named by an absolute path is used without a home that lasts; not so within the current folder."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "below"))
    volume = tmp_path / "volume"
    (volume / "snapshots").mkdir(parents=True, mode=0o700)
    volume.chmod(0o755)
    assert made(volume, CACHE) == volume
    assert made(tmp_path / "new", CACHE) == tmp_path / "new"
    with pytest.raises(
        SettingsError, match=r"cannot be made: .*file.*cannot be written.*XDG_STATE_HOME.*TTA_CACHE_DIR"
    ):
        made(repository / "cache", CACHE)
    assert list(repository.iterdir()) == []
    volume.chmod(0o777)
    with pytest.raises(SettingsError, match="others may write"):
        made(volume, CACHE)


def test_records_that_others_may_write_are_refused(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is our word only where nobody else can write one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state" / "tta" / "folders").mkdir(parents=True)
    (tmp_path / "state" / "tta" / "folders").chmod(0o777)
    with pytest.raises(SettingsError, match="only this user may write"):
        made(repository / ".tta", STATE)


def test_opened_takes_regular_files_only(tmp_path: Path) -> None:
    """No link at the end, no pipe; what is made is private."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):  # noqa: PT011 - each in its own words
            folders.opened(tmp_path / name, "rb")
        with pytest.raises(OSError):  # noqa: PT011 - likewise
            folders.opened(tmp_path / name, "ab")
    assert not (tmp_path / "target").exists()
    with folders.opened(tmp_path / "new", "wb"):
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
