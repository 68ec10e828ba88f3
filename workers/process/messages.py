"""What a message must be before Kombu and Celery open it: whoever may write to the broker may write anything.

Kombu takes the shape of a message for granted, and what it trips over would end the worker, then the next one.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from kombu import compression
from pydantic import BaseModel, ValidationError

#: Most bytes of a message's body, once it is unpacked.
MAX_BODY_BYTES: Final = 64 << 20


class Decompressor(Protocol):
    """One of the standard library's."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most ``max_length`` bytes of what was packed."""


#: Kombu's names of a compression -> how to pack, and what unpacks. Others are not taken.
COMPRESSIONS: Final[dict[tuple[str, ...], tuple[Callable[[bytes], bytes], Callable[[], Decompressor]]]] = {
    ("application/x-gzip", "gzip", "zlib"): (zlib.compress, zlib.decompressobj),
    ("application/x-bz2", "bzip2", "bzip"): (bz2.compress, bz2.BZ2Decompressor),
    ("application/x-lzma", "lzma", "xz"): (lzma.compress, lzma.LZMADecompressor),
}


def bound_compression() -> None:
    """Let Kombu unpack no more of a body than :data:`MAX_BODY_BYTES`."""
    known: Any = compression
    known._decoders.clear()  # noqa: SLF001 - there is no other way to forget one
    for names, (pack, unpacking) in COMPRESSIONS.items():
        compression.register(pack, _bounded(unpacking), names[0], list(names[1:]))


def _bounded(unpacking: Callable[[], Decompressor]) -> Callable[[bytes], bytes]:
    def unpack(data: bytes) -> bytes:
        unpacked = unpacking().decompress(data, MAX_BODY_BYTES + 1)
        if len(unpacked) > MAX_BODY_BYTES:
            raise ValueError(f"more than {MAX_BODY_BYTES} bytes once it is unpacked")
        return unpacked

    return unpack


class _Place(BaseModel):
    exchange: str = ""
    routing_key: str = ""


class _Properties(BaseModel):
    delivery_tag: str
    delivery_info: _Place = _Place()


class _Message(BaseModel, strict=True):
    """What Kombu and Celery take for granted."""

    properties: _Properties
    headers: dict[str, Any] = {}
    body: str = ""


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """JSON; ``None``, which is no message either, where it cannot be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def fault(payload: Any) -> str:  # noqa: ANN401 - JSON
    """Why what came from a queue is no message; empty where it is one."""
    try:
        _Message.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    return ""
