"""Fakes that keep the contracts of :mod:`tta_tasks.protocols`, for the tests of whoever builds on this package."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tta_tasks.stores import content


class MemoryStore:
    """An :class:`~tta_tasks.protocols.ArtifactStore` in this process's memory. Nothing expires.

    Args:
        max_bytes: Largest artifact.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        #: Digest -> bytes; a test may look at it, or damage it.
        self.artifacts: dict[str, bytes] = {}
        self._max_bytes = max_bytes

    def put(self, data: bytes) -> str:
        """See :meth:`ArtifactStore.put <tta_tasks.protocols.ArtifactStore.put>`."""
        digest = content.digest_of(content.within(data, self._max_bytes))
        self.artifacts.setdefault(digest, bytes(data))
        return digest

    def get(self, digest: str) -> bytes:
        """See :meth:`ArtifactStore.get <tta_tasks.protocols.ArtifactStore.get>`."""
        data = self.artifacts.get(content.well_formed(digest))
        if data is None:
            raise content.missing(digest, "memory")
        if content.digest_of(data) != digest:
            del self.artifacts[digest]
            raise content.damaged(digest, "memory")
        return data

    def has(self, digest: str) -> bool:
        """See :meth:`ArtifactStore.has <tta_tasks.protocols.ArtifactStore.has>`."""
        return content.well_formed(digest) in self.artifacts

    def prune(self) -> int:
        """Nothing to do: it keeps what it has until it is gone itself."""
        return 0

    def evict(self, needed: Callable[[], Collection[str]]) -> int:  # noqa: ARG002 - the protocol's
        """Nothing to do: it has no bound."""
        return 0
