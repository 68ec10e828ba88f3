"""Sees whether a tree was changed, and puts it back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

#: Tools write these in passing; they say nothing of a test.
_IN_PASSING = {"__pycache__", ".pytest_cache", ".hypothesis", ".coverage"}

_Stamp = tuple[int, ...]


class TreeGuard:
    """A tree as it is now, with a copy to go back to.

    Args:
        root: The tree.
        copy: A folder that does not exist yet, outside of ``root``.
    """

    def __init__(self, root: Path, copy: Path) -> None:
        self.root = root
        self.copy = copy
        shutil.copytree(root, copy, symlinks=True)
        self.stamps = self._stamps()

    def changes(self, but: Collection[str] = ()) -> list[str]:
        """Paths relative to the tree that were written, added or removed since, except ``but``."""
        now = self._stamps()
        differing = (path for path in {*now, *self.stamps} if now.get(path) != self.stamps.get(path))
        return sorted(path for path in differing if path not in but)

    def restore(self) -> None:
        """Make the tree what it was."""
        changed = self.changes()
        for path in (self.root / name for name in changed):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
        for name in changed:
            if name in self.stamps:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.copy / name, self.root / name, follow_symlinks=False)
        self._remove_new_folders()
        self.stamps = self._stamps()

    def _remove_new_folders(self) -> None:
        for folder, _, _ in os.walk(self.root, topdown=False):
            relative = Path(folder).relative_to(self.root)
            if not (self.copy / relative).exists():
                shutil.rmtree(folder)

    def _stamps(self) -> dict[str, _Stamp]:
        """Files by path. The time of change (ctime) cannot be set back by who wrote."""
        stamps: dict[str, _Stamp] = {}
        for folder, below, files in os.walk(self.root):
            below[:] = [name for name in below if name not in _IN_PASSING]
            links = [name for name in below if (Path(folder) / name).is_symlink()]
            for path in (Path(folder) / name for name in (*files, *links) if name not in _IN_PASSING):
                stat = path.lstat()
                key = path.relative_to(self.root).as_posix()
                stamps[key] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode)
        return stamps
