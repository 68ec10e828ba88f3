"""Sees whether a tree was changed, and puts it back."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tta_tasks.foreign import ForeignTree

#: Tools write these in passing; they say nothing of a test.
_IN_PASSING = {"__pycache__", ".pytest_cache", ".hypothesis", ".coverage"}
#: Most files, links and folders that are looked at, beyond those that were there before.
_MOST_ADDED = 20_000

_Stamp = tuple[int, ...]


class TreeGuard:
    """A tree where foreign code is going to run, and what to go back to.

    Args:
        root: The tree: a fresh copy of ``pristine``.
        pristine: A tree where no foreign code has run, nor can write.
    """

    def __init__(self, root: Path, pristine: Path) -> None:
        self.foreign = ForeignTree(root)
        self.pristine = ForeignTree(pristine)
        self._stamps: dict[str, _Stamp] = {}
        self._stamps = self._scanned(sys.maxsize)

    def changes(self, but: Collection[str] = ()) -> list[str]:
        """Paths of files relative to the tree that were written, added or removed since, except ``but``."""
        try:
            now = self._scanned()
        except OSError as error:
            return [f"{error.filename}: {error.strerror}"]
        differing = (path for path in {*now, *self._stamps} if now.get(path) != self._stamps.get(path))
        files = (path for path in differing if not path.endswith("/") and not _in_passing(path))
        return sorted(path for path in files if path not in but)

    def restore(self) -> None:
        """Make the tree what it was, with nothing added: what tools keep in passing may be somebody's code, too.

        Raises:
            OSError: What is there cannot be removed, or the disk is full.
        """
        try:
            now = self._scanned()
            self._remove({path.rstrip("/") for path in now} - {path.rstrip("/") for path in self._stamps})
            as_it_was = all(now.get(path) == stamp for path, stamp in self._stamps.items())
        except OSError:
            as_it_was = False
        if not as_it_was:
            self._replace()

    def _remove(self, added: Collection[str]) -> None:
        for path in added:
            if PurePosixPath(path).parent.as_posix() not in added:
                self.foreign.remove(path)

    def _replace(self) -> None:
        root = self.foreign.root
        ForeignTree(root.parent).remove(root.name)
        # It came from a snapshot, which is bounded.
        self.pristine.copy_to(root, max_bytes=sys.maxsize, max_entries=sys.maxsize)
        self._stamps = self._scanned(sys.maxsize)

    def _scanned(self, most_added: int = _MOST_ADDED) -> dict[str, _Stamp]:
        """Files by path, and folders with a slash. The time of change (ctime) cannot be set back by who wrote."""
        root = ForeignTree(self.foreign.root.parent).status(self.foreign.root.name)
        stamps: dict[str, _Stamp] = {"./": (root.st_ino, root.st_mode) if root else ()}
        for found in self.foreign.walk(max_entries=len(self._stamps) + most_added, folders=True):
            status = found.status
            if found.folder:
                stamps[f"{found.path}/"] = (status.st_ino, status.st_mode)
            else:
                times = (status.st_mtime_ns, status.st_ctime_ns)
                stamps[found.path] = (status.st_ino, status.st_mode, status.st_size, *times)
        return stamps


def _in_passing(path: str) -> bool:
    return not _IN_PASSING.isdisjoint(PurePosixPath(path).parts)
