"""Artifacts in any place fsspec knows: a folder, a bucket, a host reached by SSH."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from tta_tasks import folders
from tta_tasks.errors import SettingsError, StoreUnavailable, TtaError
from tta_tasks.stores import content
from tta_tasks.stores.signing import Signer

#: An upload older than this was abandoned.
UPLOAD_S = 3600


class FsspecStore:
    """An :class:`~tta_tasks.protocols.ArtifactStore` below ``url``, as ``ab/cdef...``.

    Nothing expires by itself: call :meth:`prune` now and then (or give the bucket a rule that does the same).

    Args:
        url: Any fsspec URL; may hold credentials, which are never shown.
        retention_s: :meth:`prune` removes what was not used for this long.
        max_bytes: Largest artifact.
        signer: Signs and judges; without, neither.

    Raises:
        SettingsError: ``url`` is not one, or its file system is not installed. Each method raises it where ``url``
            names a folder that we did not make.
    """

    def __init__(self, url: str, *, retention_s: int, max_bytes: int, signer: Signer | None = None) -> None:
        self._place = content.without_secrets(url)
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"TTA_ARTIFACT_URL ({self._place}) cannot be used here: {type(error).__name__}.",
                "Install the fsspec file system of its scheme (s3fs, gcsfs, adlfs ...), or correct the scheme.",
            ) from error
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._signer = signer or Signer()

    def put(self, data: bytes) -> str:
        """See :meth:`ArtifactStore.put <tta_tasks.protocols.ArtifactStore.put>`."""
        digest = content.digest_of(content.within(data, self._max_bytes))
        # What is there already may have been stored by somebody without the key.
        if self._signer.signs or not self.has(digest):
            with self._translated():
                self._write(self._path(digest), self._signer.signed(digest, data))
        return digest

    def get(self, digest: str) -> bytes:
        """See :meth:`ArtifactStore.get <tta_tasks.protocols.ArtifactStore.get>`; renews its expiry."""
        path = self._path(digest)
        with self._translated():
            try:
                stored = bytes(self._files.cat_file(path))
            except FileNotFoundError:
                raise content.missing(digest, self._place) from None
            if (data := self._signer.verified(digest, stored, self._place)) is None:
                self._files.rm_file(path)
                raise content.damaged(digest, self._place)
            self._renew(path)
        return data

    def has(self, digest: str) -> bool:
        """See :meth:`ArtifactStore.has <tta_tasks.protocols.ArtifactStore.has>`."""
        path = self._path(digest)
        with self._translated():
            try:
                self._renew(path)
            except FileNotFoundError:
                return False
        return True

    def prune(self) -> int:
        """Remove what was not used within the retention, and abandoned uploads; answer how many."""
        removed = 0
        with self._translated():
            for path in self._files.find(self._root):
                if path.rpartition("/")[0] == self._root:
                    continue  # no artifact: our mark
                limit = UPLOAD_S if path.endswith(".tmp") else self._retention_s
                try:
                    if self._age(path) > limit:
                        self._files.rm_file(path)
                        removed += 1
                except FileNotFoundError:
                    continue  # another host prunes, too
        return removed

    def evict(self, needed: Callable[[], Collection[str]]) -> int:  # noqa: ARG002 - the protocol's
        """Nothing to do: how much a folder or bucket may hold is its owner's to say."""
        return 0

    def _path(self, digest: str) -> str:
        name = content.well_formed(digest)
        return f"{self._root}/{name[:2]}/{name[2:]}"

    def _write(self, path: str, data: bytes) -> None:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        # Under another name first: readers see all of it or nothing.
        upload = f"{path}.{uuid4().hex}.tmp"
        self._files.pipe_file(upload, data)
        self._files.mv(upload, path)

    def _renew(self, path: str) -> None:
        age = self._age(path)
        try:
            self._files.touch(path, truncate=False)
        except (NotImplementedError, ValueError):
            # Object stores cannot touch; write it again, but not at every use.
            if age > self._retention_s / 2:
                self._write(path, self._files.cat_file(path))

    def _age(self, path: str) -> float:
        return time.time() - float(self._files.modified(path).timestamp())

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            if isinstance(self._files, LocalFileSystem):
                # Only ours to read: a snapshot is somebody's source code.
                folders.make(Path(self._root), folders.ARTIFACTS)
            yield
        except TtaError:
            raise
        except Exception as error:  # each file system raises what its own client library raises
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StoreUnavailable(
                f"The artifact store {self._place} cannot be used: {reason}.",
                "Check that it can be reached, has space, and may be written by this process.",
            ) from error
