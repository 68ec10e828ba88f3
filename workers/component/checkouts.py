"""Snapshots on a worker host: fetched and unpacked once, then copied for every task that works on one."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from tta_tasks import tracing
from tta_tasks.errors import SnapshotError
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import ArtifactStore
from tta_tasks.settings import Settings
from tta_tasks.snapshot.archive import unpack
from tta_tasks.stores.content import well_formed


class SnapshotCache:
    """A bounded cache of unpacked snapshots, shared by all processes of a host.

    Args:
        root: Its folder; nothing else may be in it.
        store: Where snapshots come from.
        max_bytes: Most bytes of unpacked snapshots kept; the least recently used go first, never the
            newest or the one just fetched.
        max_snapshot_bytes: Most bytes of one, unpacked.
        max_snapshot_files: Most files of one.
    """

    def __init__(
        self,
        root: Path,
        store: ArtifactStore,
        max_bytes: int,
        *,
        max_snapshot_bytes: int = Settings.model_fields["max_snapshot_bytes"].default,
        max_snapshot_files: int = Settings.model_fields["max_snapshot_files"].default,
    ) -> None:
        self._root = root
        self._store = store
        self._max_bytes = max_bytes
        self._limits = {"max_bytes": max_snapshot_bytes, "max_files": max_snapshot_files}

    @tracing.step("checkout")
    def checkout(self, digest: str, into: Path) -> None:
        """Give a task its own copy of a snapshot.

        Args:
            digest: The snapshot.
            into: Where it goes; empty or absent. It shares nothing with the cache that could be written to.

        Raises:
            ArtifactMissing: The store has no such snapshot.
            StoreUnavailable: The store does not answer.
            SnapshotError: It cannot be unpacked safely, or the disk is full.
        """
        if into.exists() and any(into.iterdir()):
            raise SnapshotError(f"{into} is not empty, so nothing was checked out there.")
        try:
            self._checkout(well_formed(digest), into)
        except OSError as error:
            shutil.rmtree(into, ignore_errors=True)
            raise SnapshotError(
                f"The snapshot could not be checked out: {error.filename or into}: {error.strerror}.",
                "Is the disk full, or TTA_CACHE_DIR not writable?",
            ) from error

    def tree(self, digest: str) -> Path:
        """The unpacked snapshot itself: to be read at once and never written, as it may be evicted at any time.

        Raises:
            ArtifactMissing: The store has no such snapshot.
            StoreUnavailable: The store does not answer.
            SnapshotError: It cannot be unpacked safely, or the disk is full.
        """
        kept = self._root / well_formed(digest)
        if not kept.exists():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._root / "lock"):
                if not kept.exists():
                    self._fetch(digest)
        return kept / "tree"

    def _checkout(self, digest: str, into: Path) -> None:
        try:
            self._copy(digest, into)
        except FileNotFoundError:
            # Not here yet, or evicted while it was copied; nobody evicts while we hold the lock.
            shutil.rmtree(into, ignore_errors=True)
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._root / "lock"):
                if not (self._root / digest).exists():
                    self._fetch(digest)
                self._copy(digest, into)

    def _copy(self, digest: str, into: Path) -> None:
        kept = self._root / digest
        unpacked_at = (kept / "size").stat().st_mtime_ns
        os.utime(kept)
        if into.exists():
            into.rmdir()
        # As large as it was when it was unpacked, within the limits.
        ForeignTree(kept / "tree").copy_to(into, max_bytes=sys.maxsize, max_entries=sys.maxsize)
        # A folder that is emptied while it is listed looks complete; so see that it is still the one we began with.
        if (kept / "size").stat().st_mtime_ns != unpacked_at:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(kept))

    def _fetch(self, digest: str) -> None:
        """Unpack a snapshot beside the cache and move it in at once, so that nobody sees half of it."""
        self._clean()
        unpacked = self._root / f"new-{uuid4().hex}"
        try:
            size = unpack(self._store.get(digest), unpacked / "tree", **self._limits)
            (unpacked / "size").write_text(str(size))
            unpacked.rename(self._root / digest)
        except BaseException:
            shutil.rmtree(unpacked, ignore_errors=True)
            raise
        self._evict(spared=digest)

    def _clean(self) -> None:
        """Remove what a killed process left; we hold the lock, so nobody is at work there."""
        for folder in self._root.glob("*-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _evict(self, spared: str) -> None:
        """Keep within the bound; ``spared`` was fetched to be copied, and others may have been used since."""
        snapshots = sorted(self._snapshots(), key=lambda kept: kept.stat().st_mtime_ns, reverse=True)
        total = 0
        for place, kept in enumerate(snapshots):
            total += int((kept / "size").read_text())
            if total > self._max_bytes and place > 0 and kept.name != spared:
                # Renamed first: whoever is copying it notices that it is gone, instead of missing some files.
                doomed = kept.rename(self._root / f"old-{kept.name}")
                shutil.rmtree(doomed)

    def _snapshots(self) -> Iterator[Path]:
        return (path for path in self._root.iterdir() if (path / "size").is_file())
