"""What all stores share: names that are digests, and bytes that are checked against them."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from tta_tasks.errors import ArtifactMissing, ArtifactTooLarge

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """The name of ``data`` in every store: its sha256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def well_formed(digest: str) -> str:
    """``digest`` itself; it becomes part of a path or key, so nothing else may pass.

    Raises:
        ArtifactMissing: It is no sha256, so nothing was ever stored under it.
    """
    if not _DIGEST.fullmatch(digest):
        raise ArtifactMissing(f"{digest[:80]!r} is not the digest of an artifact.")
    return digest


def within(data: bytes, max_bytes: int) -> bytes:
    """``data`` itself.

    Raises:
        ArtifactTooLarge: It is larger than ``max_bytes``.
    """
    if len(data) > max_bytes:
        raise ArtifactTooLarge(
            f"An artifact of {len(data):,} bytes is above this store's limit of {max_bytes:,}.",
            "Leave large files out of the repository, raise TTA_MAX_ARTIFACT_BYTES, or set TTA_ARTIFACT_URL "
            "to a store made for large objects.",
        )
    return data


def missing(digest: str, place: str) -> ArtifactMissing:
    """The error for an artifact that is not there."""
    return ArtifactMissing(
        f"Artifact {digest} is not in {place}: it expired, or was never stored there.",
        "Submit the run again; producers and workers must be set to the same store (TTA_ARTIFACT_URL).",
    )


def damaged(digest: str, place: str) -> ArtifactMissing:
    """The error for an artifact whose bytes are no longer what was stored."""
    return ArtifactMissing(
        f"Artifact {digest} in {place} was damaged, and has been removed.", "Submit the run again to store it anew."
    )


def without_secrets(url: str) -> str:
    """``url`` as it may be shown: without user, password and query, each of which can hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else parts.path
