"""The one door to folders where foreign code has run, or may still run.

A component's tests, its build and an agent's commands leave there what they like: a link in place of a file, a pipe
that never answers, a device without end, a folder without bottom. :class:`ForeignTree` goes beneath a folder component
by component and never through a link, opens regular files only and without waiting, and reads no more than it was told
to. What it refuses is an :class:`OSError`, as if the file could not be read; shapes are checked by
:meth:`ForeignTree.read_json`.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

__all__ = ["MAX_FILE_BYTES", "ForeignTree", "Found", "Refused", "discard"]

#: Largest file that is read where the caller does not say otherwise.
MAX_FILE_BYTES = 16 << 20
#: Most entries of a folder, with all below, and deepest folder in folders.
MAX_ENTRIES, MAX_DEPTH = 200_000, 100

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
#: What opening says of a link, of a file in place of a folder, and of a socket.
_ODD = {errno.ELOOP: "it is a symbolic link", errno.ENOTDIR: "it is no folder", errno.ENXIO: "it is no regular file"}

Shape = TypeVar("Shape")


class Refused(OSError):
    """What is there is not what a careful reader opens: no regular file, too large, or of another shape."""

    def __init__(self, path: str, why: str, code: int = errno.EINVAL) -> None:
        super().__init__(code, why, path)


@dataclass(frozen=True)
class Found:
    """A file, link or folder below a folder."""

    #: Relative to the tree's root, POSIX.
    path: str
    status: os.stat_result

    @property
    def regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)


@dataclass(frozen=True)
class ForeignTree:
    """What is beneath a folder that foreign code could write to.

    All paths are relative to ``root``, or absolute and below it by their words alone; none may hold ``..``. Links are
    never followed, neither on the way nor at the end. Anything that cannot be had so is an :class:`OSError`;
    :class:`FileNotFoundError` where there is nothing.

    Attributes:
        root: The folder itself, made by us, in a place that foreign code cannot write to.
    """

    root: Path

    # -- looking ------------------------------------------------------------------------------------------------------

    def status(self, path: str | PurePath) -> os.stat_result | None:
        """What is at ``path``, a link itself and not what it points to; ``None`` where there is nothing to be had."""
        try:
            if not self._relative(path):
                return os.lstat(self.root)
            with self._parent(path) as (folder, name):
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None

    def exists(self, path: str | PurePath) -> bool:
        """Whether there is anything at ``path``, a link to nowhere included."""
        return self.status(path) is not None

    def is_file(self, path: str | PurePath) -> bool:
        """Whether ``path`` is a regular file."""
        status = self.status(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def is_folder(self, path: str | PurePath) -> bool:
        """Whether ``path`` is a folder."""
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def link_target(self, path: str | PurePath) -> str:
        """Where the link at ``path`` points; only to be looked at."""
        with self._parent(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def walk(
        self,
        path: str | PurePath = ".",
        *,
        max_entries: int = MAX_ENTRIES,
        max_depth: int = MAX_DEPTH,
        skip: Callable[[str, bool], bool] = lambda _path, _is_folder: False,
        folders: bool = False,
    ) -> Iterator[Found]:
        """Everything below ``path`` that is no folder, sorted, folder after folder.

        Args:
            path: Where to begin.
            max_entries: Most files, links and folders.
            max_depth: Most folders in folders.
            skip: Asked about each path, and whether it is a folder; what it skips does not count.
            folders: Whether folders are told of, too.

        Raises:
            Refused: There are more than ``max_entries``, or folders deeper than ``max_depth``.
            OSError: A folder cannot be listed.
        """
        yield from self._walk(self._relative(path), _Walk([max_entries], skip, folders), max_depth)

    def files(
        self, pattern: str = "*", path: str | PurePath = ".", *, max_entries: int = MAX_ENTRIES
    ) -> Iterator[Found]:
        """The regular files below ``path`` whose name fits ``pattern`` (``*.py``); none where it is no folder."""
        if self._relative(path) and not self.is_folder(path):
            return
        for found in self.walk(path, max_entries=max_entries):
            if found.regular and fnmatch.fnmatchcase(found.path.rpartition("/")[2], pattern):
                yield found

    # -- reading ------------------------------------------------------------------------------------------------------

    def read_bytes(self, path: str | PurePath, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of a regular file.

        Raises:
            Refused: It is no regular file, or larger than ``max_bytes``.
            OSError: It cannot be read.
        """
        with self._parent(path) as (folder, name):
            descriptor = _opened(name, _READ, folder, str(path))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _check_regular(descriptor, str(path))
            content = bytearray()
            while chunk := file.read(min(_CHUNK, max_bytes + 1 - len(content))):
                content += chunk
                if len(content) > max_bytes:
                    raise Refused(str(path), f"it has more than {max_bytes:,} bytes", errno.EFBIG)
        return bytes(content)

    def read_text(self, path: str | PurePath, *, max_bytes: int = MAX_FILE_BYTES, errors: str = "strict") -> str:
        """The content of a regular file as UTF-8, with ``errors`` as :meth:`bytes.decode` takes it.

        Raises:
            OSError: As :meth:`read_bytes`.
            UnicodeDecodeError: It is not UTF-8.
        """
        return self.read_bytes(path, max_bytes=max_bytes).decode(errors=errors)

    def read_json(self, path: str | PurePath, shape: TypeAdapter[Shape], *, max_bytes: int = MAX_FILE_BYTES) -> Shape:
        """The content of a regular file, which must be JSON of ``shape``.

        Raises:
            Refused: It is of another shape, too large, or no regular file.
            OSError: It cannot be read.
        """
        try:
            return shape.validate_json(self.read_bytes(path, max_bytes=max_bytes))
        except ValidationError as error:
            raise Refused(str(path), f"it is of another shape: {error.errors()[0]['msg']}") from error

    # -- writing ------------------------------------------------------------------------------------------------------

    def write_bytes(self, path: str | PurePath, content: bytes, *, executable: bool | None = None) -> None:
        """Put a regular file at ``path``, in place of a file or link there; folders on the way are made.

        Args:
            path: Where.
            content: What.
            executable: Its permission; without, that of the file it replaces.

        Raises:
            OSError: There is a folder, a link on the way, or no room.
        """
        with self._parent(path, make=True) as (folder, name):
            if executable is None:
                with contextlib.suppress(OSError):
                    was = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    executable = stat.S_ISREG(was.st_mode) and bool(was.st_mode & stat.S_IXUSR)
            new = f".{uuid4().hex}.new"
            try:
                with os.fdopen(os.open(new, _CREATE, 0o755 if executable else 0o644, dir_fd=folder), "wb") as file:
                    file.write(content)
                os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=folder)
                raise

    def write_text(self, path: str | PurePath, content: str) -> None:
        """Put a UTF-8 file at ``path``; see :meth:`write_bytes`."""
        self.write_bytes(path, content.encode())

    def make_folder(self, path: str | PurePath) -> None:
        """Make a folder, and those on the way; fine where it is there.

        Raises:
            OSError: Something else is there.
        """
        os.close(self._open_folder(self._relative(path), make=True))

    def remove(self, path: str | PurePath) -> None:
        """Remove whatever is at ``path``: a file, a link itself, or a folder with all below; fine where nothing is.

        Raises:
            OSError: It cannot be removed.
        """
        try:
            with self._parent(path) as (folder, name):
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    _remove_folder(name, folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return

    def remove_if_empty(self, path: str | PurePath) -> None:
        """Remove the folder at ``path``, and those above it, as long as they hold nothing."""
        parts = self._relative(path)
        with contextlib.suppress(OSError):
            for length in range(len(parts), 0, -1):
                with self._parent(PurePath(*parts[:length])) as (folder, name):
                    os.rmdir(name, dir_fd=folder)

    def copy_to(
        self, into: Path, *, max_bytes: int, max_entries: int = MAX_ENTRIES, keep: str | PurePath = "."
    ) -> None:
        """Copy folders, regular files and the links, as links, below ``keep`` to ``into``, which must not exist yet.

        What is neither (pipes, sockets, devices) stays behind. Files share blocks where the file system can (btrfs,
        XFS) and copies on write; they are never hard links.

        Args:
            into: A folder of ours, where no foreign code runs meanwhile.
            max_bytes: Most bytes of all files together.
            max_entries: Most files, links and folders.
            keep: The part that is copied; paths below ``into`` are relative to it.

        Raises:
            Refused: It has more than that, or is nested too deeply.
            OSError: It cannot be read, or ``into`` not be written.
        """
        into.mkdir(parents=True)
        source = self._open_folder(self._relative(keep))
        try:
            target = os.open(into, _FOLDER)
            try:
                _Copy(max_bytes, max_entries).folder(source, target, str(keep), MAX_DEPTH)
            finally:
                os.close(target)
        finally:
            os.close(source)

    # -- the way there ------------------------------------------------------------------------------------------------

    def _relative(self, path: str | PurePath) -> tuple[str, ...]:
        pure = PurePath(path)
        try:
            parts = pure.relative_to(self.root).parts if pure.is_absolute() else pure.parts
        except ValueError:
            raise Refused(str(path), f"it is not below {self.root}") from None
        if ".." in parts or any("\0" in part for part in parts):
            raise Refused(str(path), "its name leads elsewhere")
        return parts

    @contextlib.contextmanager
    def _parent(self, path: str | PurePath, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Descriptor of the folder that holds ``path``, and its name there."""
        parts = self._relative(path)
        if not parts:
            raise Refused(str(path), "it is the folder itself", errno.EISDIR)
        folder = self._open_folder(parts[:-1], make=make)
        try:
            yield folder, parts[-1]
        finally:
            os.close(folder)

    def _open_folder(self, parts: tuple[str, ...], *, make: bool = False) -> int:
        folder = _opened(self.root, _FOLDER, None, str(self.root))
        for depth, part in enumerate(parts):
            try:
                below = _opened_below(part, folder, "/".join(parts[: depth + 1]), make=make)
            finally:
                os.close(folder)
            folder = below
        return folder

    def _walk(self, parts: tuple[str, ...], how: _Walk, depth: int) -> Iterator[Found]:
        place = "/".join(parts)
        if depth < 0:
            raise Refused(place, "it is nested too deeply", errno.ENAMETOOLONG)
        below = []
        descriptor = self._open_folder(parts)
        try:
            found = []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    path, is_folder = f"{place}/{entry.name}" if place else entry.name, _is_folder(entry)
                    if how.skip(path, is_folder):
                        continue
                    how.left[0] -= 1
                    if how.left[0] < 0:
                        raise Refused(place, "it holds too many files", errno.EMLINK)
                    if is_folder:
                        below.append(entry.name)
                    if not is_folder or how.folders:
                        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                            found.append(Found(path, os.stat(entry.name, dir_fd=descriptor, follow_symlinks=False)))
        finally:
            os.close(descriptor)
        yield from sorted(found, key=lambda each: os.fsencode(each.path))
        for name in sorted(below, key=os.fsencode):
            yield from self._walk((*parts, name), how, depth - 1)


def discard(path: Path) -> None:
    """Remove a throw-away folder of ours, whatever foreign code has left in it; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        ForeignTree(path.parent).remove(path.name)


@dataclass(frozen=True)
class _Walk:
    #: Entries that may still come.
    left: list[int]
    skip: Callable[[str, bool], bool]
    folders: bool


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _opened(name: str | Path, flags: int, folder: int | None, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in _ODD:
            raise Refused(path, _ODD[error.errno], error.errno) from error
        raise


def _opened_below(name: str, folder: int, path: str, *, make: bool) -> int:
    try:
        return _opened(name, _FOLDER, folder, path)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return _opened(name, _FOLDER, folder, path)


def _check_regular(descriptor: int, path: str) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refused(path, "it is no regular file")
    return status


# -- copying ----------------------------------------------------------------------------------------------------------


@dataclass
class _Copy:
    """What may still be copied."""

    bytes_left: int
    entries_left: int

    def folder(self, source: int, target: int, place: str, depth: int) -> None:
        if depth < 0:
            raise Refused(place, "it is nested too deeply", errno.ENAMETOOLONG)
        with os.scandir(source) as entries:
            for entry in entries:
                self.entries_left -= 1
                if self.entries_left < 0:
                    raise Refused(place, "it holds too many files", errno.EMLINK)
                if _is_folder(entry):
                    self._below(entry.name, source, target, place, depth)
                elif entry.is_symlink():
                    os.symlink(os.readlink(entry.name, dir_fd=source), entry.name, dir_fd=target)
                elif entry.is_file(follow_symlinks=False):
                    self._file(entry.name, source, target, place)

    def _below(self, name: str, source: int, target: int, place: str, depth: int) -> None:
        inner = _opened(name, _FOLDER, source, f"{place}/{name}")
        try:
            new = _opened_below(name, target, name, make=True)
            try:
                self.folder(inner, new, f"{place}/{name}", depth - 1)
            finally:
                os.close(new)
        finally:
            os.close(inner)

    def _file(self, name: str, source: int, target: int, place: str) -> None:
        path = f"{place}/{name}"
        with os.fdopen(_opened(name, _READ, source, path), "rb", buffering=0) as readable:
            status = _check_regular(readable.fileno(), path)
            new = os.open(name, _CREATE, 0o755 if status.st_mode & stat.S_IXUSR else 0o644, dir_fd=target)
            with os.fdopen(new, "wb", buffering=0) as writable:
                while copied := _copy_some(readable.fileno(), writable.fileno(), min(1 << 30, self.bytes_left + 1)):
                    self.bytes_left -= copied
                    if self.bytes_left < 0:
                        raise Refused(path, "there is more than may be copied", errno.EFBIG)


def _copy_some(source: int, target: int, size: int) -> int:
    """Copy up to ``size`` bytes from where both are, in the kernel where it can."""
    try:
        return os.copy_file_range(source, target, size)
    except (AttributeError, OSError):  # no such call here (macOS), or not between these file systems
        chunk = os.read(source, min(size, _CHUNK))
        written = 0
        while written < len(chunk):
            written += os.write(target, chunk[written:])
        return written


# -- removing ---------------------------------------------------------------------------------------------------------


def _remove_folder(name: str, above: int) -> None:
    """Remove a folder with all below, however deep, and whatever its modes.

    Folders below are brought up to it one by one, so that neither recursion nor open folders add up.
    """
    _permit(name, above)
    folder = _opened(name, _FOLDER, above, name)
    try:
        while below := _unlink_files(folder):
            for each in below:
                _permit(each, folder)
                inner = _opened(each, _FOLDER, folder, each)
                try:
                    for deeper in _unlink_files(inner):
                        _permit(deeper, inner)
                        os.rename(deeper, uuid4().hex, src_dir_fd=inner, dst_dir_fd=folder)
                finally:
                    os.close(inner)
                os.rmdir(each, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=above)


def _unlink_files(folder: int) -> list[str]:
    """Remove what is no folder; answer the names of the folders."""
    with os.scandir(folder) as entries:
        found = [(entry.name, _is_folder(entry)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]


def _permit(name: str, above: int) -> None:
    """Let us list and change a folder, which code may have forbidden; never what a link in its place leads to."""
    if os.stat(name, dir_fd=above, follow_symlinks=False).st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    with contextlib.suppress(OSError):
        if sys.platform == "linux":  # which changes no modes without following
            descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            try:
                Path(f"/proc/self/fd/{descriptor}").chmod(stat.S_IRWXU)
            finally:
                os.close(descriptor)
        else:
            os.chmod(name, stat.S_IRWXU, dir_fd=above, follow_symlinks=False)
