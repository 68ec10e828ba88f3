"""Unpacks a source archive: ``python -I -S unpack.py ARCHIVE INTO``, where nothing but ``INTO`` can be written to."""

from __future__ import annotations

import sys
import tarfile
import zipfile

#: Most bytes and entries of all.
MAX_BYTES, MAX_ENTRIES = 1 << 30, 100_000


def main(archive: str, into: str) -> None:
    """Unpack it, whatever its name says it is."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            _bound([info.file_size for info in packed.infolist()])
            packed.extractall(into)  # noqa: S202 - bounded; into a folder of its own, in the sandbox
        return
    with tarfile.open(archive) as packed_tar:
        left, sizes = MAX_ENTRIES, []
        for member in packed_tar:
            left -= 1
            sizes.append(member.size)
            if left < 0 or sum(sizes) > MAX_BYTES:
                break
        _bound(sizes)
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        packed_tar.extractall(into, **safely)  # type: ignore[arg-type] # noqa: S202 - likewise


def _bound(sizes: list[int]) -> None:
    if len(sizes) > MAX_ENTRIES or sum(sizes) > MAX_BYTES:
        sys.exit(f"error: the archive has more than {MAX_BYTES:,} bytes or {MAX_ENTRIES:,} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
