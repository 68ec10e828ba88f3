"""Signed artifacts: only what a holder of the key has stored is used.

An artifact's name is the digest of its bytes, so nobody can change one unseen; but whoever may write to the store, with
a producer's stolen password say, can add some. With ``TTA_SIGNING_KEY`` what is stored begins with a signature of the
name, and what has none that a key here made is refused. A process without a key reads signed artifacts as others.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from tta_tasks.errors import ArtifactUntrusted
from tta_tasks.stores import content

_MARK: Final = b"tta-signed-1\n"
_BYTES: Final = 32


class Signer:
    """Signs what goes into a store, and judges what comes out of it.

    Args:
        keys: Secrets; the first one signs, any of them is trusted. None: nothing is signed, everything is trusted.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = [key.encode() for key in keys]

    @property
    def signs(self) -> bool:
        """Whether there is a key."""
        return bool(self._keys)

    @property
    def name(self) -> str:
        """What tells this signer from others, and not its key; empty without one."""
        return _signature(self._keys[0], "name").hex() if self._keys else ""

    def signed(self, digest: str, data: bytes) -> bytes:
        """What to store for ``data``."""
        return _MARK + _signature(self._keys[0], digest) + data if self._keys else data

    def verified(self, digest: str, stored: bytes, place: str) -> bytes | None:
        """The bytes of an artifact from what was stored; ``None`` where these are not the ones of its name.

        Raises:
            ArtifactUntrusted: No key that is trusted here has signed it.
        """
        signature, data = b"", stored
        if content.digest_of(stored) != digest:
            mark, signature, data = stored[: len(_MARK)], stored[len(_MARK) :][:_BYTES], stored[len(_MARK) + _BYTES :]
            if mark != _MARK or content.digest_of(data) != digest:
                return None
        if self._keys and not any(hmac.compare_digest(_signature(key, digest), signature) for key in self._keys):
            raise ArtifactUntrusted(
                f"Artifact {digest} in {place} is not signed with a key that is trusted here, and is not used.",
                "Submit from a host that has the TTA_SIGNING_KEY of these workers. If you did: somebody else has "
                "written to the store; see docs/explanation/threat-model.md.",
            )
        return data


def _signature(key: bytes, digest: str) -> bytes:
    return hmac.digest(key, b"tta artifact " + digest.encode(), "sha256")
