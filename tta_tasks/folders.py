"""The folders that settings name: used only when we made them.

A repository may bring a folder of any name, and a command may be started in it. Links in that folder would have us
write elsewhere, its targets would say where a release goes, and its ``stack.json`` which broker gets the work. So each
such folder is looked at before it is used, once a process:

- It is a real folder of this user, and nobody else may write to it. It is no link, nor is a folder on the way to it
  that a repository could have brought.
- What lies in it are files and folders, no links or pipes, and git tracks none of them.
- It holds a random mark. Where a repository could have brought the folder, our own record in the user's home must name
  this mark together with the folder's inode: a copy of a mark is worth nothing.

A repository could have brought what is named by a relative path, lies in a work tree of git, or below the current
folder. Elsewhere an operator named the folder on purpose, in a container perhaps whose home does not last: a folder
without a record is fine there, and gets one where that can be written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tta_tasks.errors import SettingsError

STATE, CACHE, ARTIFACTS = "TTA_STATE_DIR", "TTA_CACHE_DIR", "TTA_ARTIFACT_URL"
#: Setting -> what a person calls its folder.
NAMES: Final = {STATE: "state folder", CACHE: "cache folder", ARTIFACTS: "folder of artifacts"}
MARK: Final = "mark"
_MARK: Final = re.compile(r"[0-9a-f]{32}")

#: Path and inode of the folders that this process has looked at.
_looked_at: set[tuple[Path, int]] = set()


@dataclass(frozen=True)
class _Place:
    """Where a folder is, or is to be.

    Attributes:
        path: Absolute, without ``..``; links in it are as they are.
        base: The outermost folder that a repository may have written, above ``path``; ``None`` where there is none.
        in_work_tree: Whether a folder above it is a repository of git.
        ours: Whether our record must know it.
    """

    path: Path
    base: Path | None
    in_work_tree: bool
    ours: bool

    @classmethod
    def of(cls, folder: Path) -> _Place:
        named = folder.expanduser()
        path = Path(os.path.abspath(named))  # noqa: PTH100 - by its words: a link must not lead out of what is looked at
        current = _inode(Path())
        trees = [each for each in path.parents if os.path.lexists(each / ".git")]
        # Services are started in `/`, which no repository is.
        below = [each for each in path.parents if each.parent != each and _inode(each) == current]
        above = sorted({*trees, *below}, key=lambda each: len(each.parts))
        ours = bool(above) or not named.is_absolute()
        return cls(path, above[0] if above else None, bool(trees), ours)


def found(folder: Path, setting: str) -> Path | None:
    """Return the folder that ``setting`` names, absolute; ``None`` where there is none, or an empty one.

    Raises:
        SettingsError: There is something else, or a folder that we did not make.
    """
    place = _Place.of(folder)
    try:
        _look_on_the_way(place, setting)
        if not os.path.lexists(place.path) or _is_empty(place.path):
            return None
        _look(place, setting)
    except OSError as error:
        raise _refused(place.path, setting, f"it cannot be read: {error.strerror}") from error
    return place.path


def make(folder: Path, setting: str) -> Path:
    """Return the folder that ``setting`` names, absolute; made where there is none, for this user only.

    Several processes may do so at once.

    Raises:
        SettingsError: There is something else, or a folder that we did not make.
        OSError: It cannot be read or written.
    """
    place = _Place.of(folder)
    _look_on_the_way(place, setting)
    if not os.path.lexists(place.path) or (place.ours and _is_empty(place.path)):
        _make(place, setting)
    _look(place, setting)
    return place.path


def made(folder: Path, setting: str) -> Path:
    """As :func:`make`, with one kind of error.

    Raises:
        SettingsError: It cannot be written, there is something else, or a folder that we did not make.
    """
    try:
        return make(folder, setting)
    except OSError as error:
        raise SettingsError(
            f"The {NAMES[setting]} {folder} cannot be written: {error.strerror}.",
            f"Choose another one with {setting}, or free some room.",
        ) from error


def adoptable(folder: Path, setting: str) -> Path:
    """Return a folder that may be taken over, absolute.

    Raises:
        SettingsError: It is no folder of this user, somebody else may write to it, it holds links, or git tracks it.
    """
    place = _Place.of(folder)
    try:
        _look_on_the_way(place, setting)
        _look_at_folder(place, setting)
    except OSError as error:
        raise _refused(place.path, setting, f"it cannot be read: {error.strerror}") from error
    return place.path


def adopt(folder: Path, setting: str) -> None:
    """Take over a folder that has no record, for a person who has looked at it.

    Raises:
        SettingsError: It is not :func:`adoptable`, or mark or record cannot be written.
    """
    path = adoptable(folder, setting)
    try:
        (path / MARK).unlink(missing_ok=True)
        _remember(path, _put_mark(path))
    except OSError as error:
        raise _refused(path, setting, f"it cannot be written: {error.strerror}") from error


def mark_of(folder: Path) -> str:
    """The mark of a folder that :func:`made` has returned."""
    if (mark := _mark(folder)) is None:
        raise SettingsError(f"The folder {folder} has lost its file {MARK!r}.", "Begin again.")
    return mark


def opened(path: Path, mode: str) -> IO[bytes]:
    """Open a regular file of our own; one that is made is for this user only.

    Args:
        path: Where; no link at the end of it is followed.
        mode: ``rb``, ``wb``, ``ab`` or ``xb``.

    Raises:
        OSError: There is something else, or it cannot be opened.
    """
    file = open(path, mode, opener=_opener)  # noqa: SIM115 - the caller closes it; Path.open() has no opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o600)


# -- looking ----------------------------------------------------------------------------------------------------------


def _look(place: _Place, setting: str) -> None:
    """See that a folder may be used, and mark one that has no mark and needs none.

    Raises:
        SettingsError: It may not.
        OSError: It cannot be read.
    """
    inode = place.path.lstat().st_ino
    if (place.path, inode) in _looked_at:
        return
    _look_at_folder(place, setting)
    mark = _mark(place.path)
    if place.ours:
        if mark is None:
            raise _unknown(place.path, setting, "it holds no mark of ours")
        if not _knows(place.path, mark):
            raise _unknown(place.path, setting, f"{_store()} has no record that it was made here")
    else:
        with contextlib.suppress(OSError, SettingsError):
            if mark is None:
                mark = _put_mark(place.path)
            if not _knows(place.path, mark):
                _remember(place.path, mark)
    _looked_at.add((place.path, inode))


def _look_on_the_way(place: _Place, setting: str) -> None:
    """See that no folder on the way is a link, as far as a repository could have made it one."""
    if place.base is None:
        return
    for folder in (*reversed(place.path.parents), place.path):
        if folder.is_relative_to(place.base) and folder != place.base and folder.is_symlink():
            raise _refused(place.path, setting, f"{folder} is a link to {folder.readlink()}")


def _look_at_folder(place: _Place, setting: str) -> None:
    """See whose the folder is, and that it holds neither links nor what a repository brought."""
    path = place.path
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        kind = f"a link to {path.readlink()}" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise _refused(path, setting, f"it is {kind}")
    if status.st_uid != os.geteuid():
        raise _refused(path, setting, f"it belongs to user {status.st_uid}, and this is user {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        raise _refused(
            path, setting, f"others may write to it (mode {mode})", f"If they never did: chmod go-w {path}. Else remove"
        )
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                raise _refused(path, setting, f"{entry.name} in it is a link, or no file")
    if os.path.lexists(path / ".git"):
        raise _refused(path, setting, "it is a repository of its own")
    if place.in_work_tree and _tracked(path, setting):
        raise _refused(path, setting, "git tracks it, or files in it: they came with the repository")


def _tracked(path: Path, setting: str) -> bool:
    """Whether git tracks ``path`` or anything in it."""
    from tta_tasks import git  # noqa: PLC0415 - it takes its time, and most processes that use a folder need it not

    try:
        return git.tracked_below(path, error=SettingsError)
    except git.GitFailed as failure:
        if str(failure).startswith("not a git repository (or any"):
            return False  # a folder `.git` that holds none
        raise _refused(path, setting, f"git cannot say whether it tracks it: {failure}") from failure


def _refused(path: Path, setting: str, why: str, hint: str = "Remove") -> SettingsError:
    return SettingsError(
        f"The {NAMES[setting]} {path} is not used: {why}.",
        f"{hint} it, or name another folder with {setting}.",
    )


def _unknown(path: Path, setting: str, why: str) -> SettingsError:
    return _refused(
        path,
        setting,
        f"{why}, so it may have come with the repository",
        f"If it is yours (made by tta-tasks 0.1.0, or copied), look at it, then run `tta adopt {path}`. Else remove",
    )


def _is_empty(path: Path) -> bool:
    """Whether there is an empty folder, which git cannot bring, or what only has been begun."""
    return stat.S_ISDIR(path.lstat().st_mode) and not any(path.iterdir())


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


# -- making -----------------------------------------------------------------------------------------------------------


def _make(place: _Place, setting: str) -> None:
    """Make the folder under another name, with mark and record, and give it its own; another process may be faster."""
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error
    new = place.path.with_name(f"{place.path.name}.{secrets.token_hex(8)}.new")
    new.mkdir(mode=0o700)
    record: Path | None = None
    try:
        with opened(new / ".gitignore", "xb") as ignored:
            ignored.write(b"*\n")
        mark = _put_mark(new)
        try:
            record = _remember(new, mark, named=place.path)
        except SettingsError as error:
            if place.ours:
                raise SettingsError(
                    f"The {NAMES[setting]} {place.path} cannot be made: {error.message}",
                    f"Name a folder that can be written to with XDG_STATE_HOME; or, with {setting}, an absolute one "
                    "outside of any repository and of the current folder, which needs no record.",
                ) from error
        new.rename(place.path)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if record is not None:
            record.unlink(missing_ok=True)
        if not (isinstance(error, OSError) and os.path.lexists(place.path)):
            raise
        # Somebody else made it meanwhile, and it is looked at like any other.


def _put_mark(folder: Path) -> str:
    mark = secrets.token_hex(16)
    with opened(folder / MARK, "xb") as file:
        file.write(mark.encode())
    return mark


def _mark(folder: Path) -> str | None:
    try:
        with opened(folder / MARK, "rb") as file:
            mark = file.read(64).decode(errors="replace")
    except OSError:
        return None
    return mark if _MARK.fullmatch(mark) else None


# -- what the user's own state folder knows ---------------------------------------------------------------------------


def _store() -> Path:
    """Where our records are: one file a folder, named after its mark.

    Raises:
        SettingsError: This user has no home.
    """
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not named.is_absolute():
        try:
            named = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise SettingsError("This user has no home folder.", "Set HOME or XDG_STATE_HOME.") from error
    return named / "tta" / "folders"


def _knows(path: Path, mark: str) -> bool:
    """Whether there is a record of the folder with this mark and inode; its path is brought up to date."""
    try:
        with opened(_record(mark), "rb") as file:
            record = json.loads(file.read(1 << 16))
        if record["inode"] != path.lstat().st_ino:
            return False
        if record["path"] != os.fspath(path):  # it was moved
            with contextlib.suppress(SettingsError):
                _remember(path, mark)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


def _remember(path: Path, mark: str, named: Path | None = None) -> Path:
    """Write the record of a folder; return its file.

    Raises:
        SettingsError: It cannot be written, or others may write there.
    """
    store, record = _store(), _record(mark)
    try:
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (store.parent, store):
            status = folder.lstat()
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or others:
                raise SettingsError(
                    f"{folder}, which records what folders were made here, is no folder that only this user may "
                    "write to.",
                    f"Make it so: chmod go-w {folder}",
                )
        new = record.with_suffix(f".{secrets.token_hex(4)}")
        with opened(new, "xb") as file:
            file.write(json.dumps({"path": os.fspath(named or path), "inode": path.lstat().st_ino}).encode())
        new.replace(record)
    except OSError as error:
        raise SettingsError(
            f"{store}, which records what folders were made here, cannot be written: {error.strerror}.",
            "Name a folder that can be with XDG_STATE_HOME.",
        ) from error
    return record


def _record(mark: str) -> Path:
    return _store() / hashlib.sha256(mark.encode()).hexdigest()[:32]
