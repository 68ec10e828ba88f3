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
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

__all__ = ["MAX_FILE_BYTES", "ForeignTree", "Found", "Refused"]

#: Largest file that is read where the caller does not say otherwise.
MAX_FILE_BYTES = 16 << 20
#: Most entries of a folder, with all below, and deepest folder in folders.
MAX_ENTRIES, MAX_DEPTH = 200_000, 100

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20

Shape = TypeVar("Shape")


class Refused(OSError):
    """What is there is not what a careful reader opens: no regular file, too large, or of another shape."""

    def __init__(self, path: str, why: str, code: int = errno.EINVAL) -> None:
        super().__init__(code, why, path)


@dataclass(frozen=True)
class Found:
    """A file or link below a folder."""

    #: Relative to the tree's root, POSIX.
    path: str
    status: os.stat_result

    @property
    def regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

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
        self, path: str | PurePath = ".", *, max_entries: int = MAX_ENTRIES, max_depth: int = MAX_DEPTH
    ) -> Iterator[Found]:
        """Everything below ``path`` that is no folder, sorted, folder after folder.

        Raises:
            Refused: There are more than ``max_entries``, or folders deeper than ``max_depth``.
            OSError: A folder cannot be listed.
        """
        left = [max_entries]
        yield from self._walk(self._relative(path), left, max_depth)

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
            descriptor = os.open(name, _READ, dir_fd=folder)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(str(path), "it is no regular file")
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
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return

    def copy_to(
        self, into: Path, *, max_bytes: int, max_entries: int = MAX_ENTRIES, keep: str | PurePath = "."
    ) -> None:
        """Copy the regular files and the links, as links, below ``keep`` to ``into``, which must not exist yet.

        What is neither (pipes, sockets, devices) stays behind, and so do empty folders.

        Args:
            into: A folder of ours, where no foreign code runs meanwhile.
            max_bytes: Most bytes of all files together.
            max_entries: Most files and links.
            keep: The part that is copied; paths below ``into`` are relative to it.

        Raises:
            Refused: It has more than that.
            OSError: It cannot be read, or ``into`` not be written.
        """
        into.mkdir(parents=True)
        target, base, left = ForeignTree(into), PurePath(*self._relative(keep)), max_bytes
        for found in self.walk(keep, max_entries=max_entries):
            place = PurePath(found.path).relative_to(base)
            if found.regular:
                content = self.read_bytes(found.path, max_bytes=left)
                left -= len(content)
                target.write_bytes(place, content, executable=bool(found.status.st_mode & stat.S_IXUSR))
            elif found.link:
                with target._parent(place, make=True) as (folder, name):
                    os.symlink(self.link_target(found.path), name, dir_fd=folder)

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
        folder = os.open(self.root, _FOLDER)
        for part in parts:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                below = os.open(part, _FOLDER, dir_fd=folder)
            finally:
                os.close(folder)
            folder = below
        return folder

    def _walk(self, parts: tuple[str, ...], left: list[int], depth: int) -> Iterator[Found]:
        place = "/".join(parts)
        if depth < 0:
            raise Refused(place, "it is nested too deeply", errno.ELOOP)
        folders = []
        descriptor = self._open_folder(parts)
        try:
            found = []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    left[0] -= 1
                    if left[0] < 0:
                        raise Refused(place, "it holds too many files", errno.EMLINK)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                        continue
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        status = os.stat(entry.name, dir_fd=descriptor, follow_symlinks=False)
                        found.append(Found(f"{place}/{entry.name}" if place else entry.name, status))
        finally:
            os.close(descriptor)
        yield from sorted(found, key=lambda each: os.fsencode(each.path))
        for name in sorted(folders, key=os.fsencode):
            yield from self._walk((*parts, name), left, depth - 1)
