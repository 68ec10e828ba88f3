"""The archive itself: a gzipped tar that is the same for the same tree, and is opened as if by an enemy.

Only regular files and symbolic links, sorted, without times, owners, or modes beyond "executable". The tar is the same
on every host; its compressed bytes, which name the artifact, can differ between implementations of zlib. That costs a
cache miss, never a wrong tree.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from tta_tasks.errors import SnapshotError
from tta_tasks.foreign import ForeignTree
from tta_tasks.snapshot.files import DEPTH, Listing, leads_out, shown

#: Fast; higher levels save a tenth and take three times as long.
LEVEL = 3
#: What a tar may add to each file: headers, long names, padding.
OVERHEAD_BYTES = 16 << 10
#: Files named when a tree is too large.
LARGEST = 5

_HINT = "Leave it out of the repository, or raise TTA_MAX_SNAPSHOT_BYTES or TTA_MAX_SNAPSHOT_FILES."


# -- writing ----------------------------------------------------------------------------------------------------------


def check_size(listing: Listing, root: Path, *, max_bytes: int, max_files: int) -> None:
    """Look at the sizes before a byte is read.

    Raises:
        SnapshotError: The tree is empty, too large, or has too many files.
    """
    entries = listing.entries
    if not entries:
        raise SnapshotError(f"{root} has no files to work on.", "Name a folder that holds the component's source.")
    if len(entries) > max_files:
        raise SnapshotError(f"{root} has {len(entries):,} files; the limit is {max_files:,}.", _HINT)
    total = sum(entry.size for entry in entries)
    if total > max_bytes:
        largest = sorted(entries, key=lambda entry: -entry.size)[:LARGEST]
        named = ", ".join(f"{shown(entry.path)} ({entry.size:,} bytes)" for entry in largest)
        raise SnapshotError(
            f"{root} has {total:,} bytes; the limit is {max_bytes:,}. The largest files: {named}.", _HINT
        )


def write(root: Path, listing: Listing) -> bytes:
    """Archive the files of ``listing``, which are below ``root``.

    Raises:
        SnapshotError: A file is gone, changes while it is read, or cannot be read.
    """
    packed, tree = io.BytesIO(), ForeignTree(root)
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=LEVEL, mtime=0) as stream,
        tarfile.open(
            fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        for entry in listing.entries:
            member = tarfile.TarInfo(entry.path)
            if entry.target is not None:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o755
                tar.addfile(member)
            else:
                member.size, member.mode = entry.size, 0o755 if entry.executable else 0o644
                tar.addfile(member, io.BytesIO(_read(tree, entry.path, entry.size)))
    return packed.getvalue()


def _read(tree: ForeignTree, path: str, size: int) -> bytes:
    try:
        data = tree.read_bytes(path, max_bytes=size)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _changed(path) from error
        raise SnapshotError(f"{shown(path)} cannot be read: {error.strerror}.", "Is it yours to read?") from error
    if len(data) != size:
        raise _changed(path)
    return data


def _changed(path: str) -> SnapshotError:
    return SnapshotError(f"{shown(path)} changed while it was read.", "Try again when nothing writes to the tree.")


# -- reading ----------------------------------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """Decompressed bytes, up to a bound: a small archive must not fill memory or disk."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._stream = gzip.GzipFile(fileobj=io.BytesIO(data), mode="rb")
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(chunk)
        if self._left < 0:
            raise SnapshotError("The snapshot unpacks to more than its limit.", _HINT)
        return chunk


def unpack(data: bytes, into: Path, *, max_bytes: int, max_files: int) -> int:
    """Unpack an archive of :func:`write` into ``into``, which must be empty or absent.

    Args:
        data: The archive. It may be anybody's.
        into: Where its files go; on error nothing is left there, and nothing ever goes elsewhere.
        max_bytes: Most bytes of all files together.
        max_files: Most files.

    Returns:
        Bytes of all files together.

    Raises:
        SnapshotError: It is no archive of ours, is too large, or the disk is full.
    """
    if into.exists() and any(into.iterdir()):
        raise SnapshotError(f"{into} is not empty, so nothing was unpacked there.")
    try:
        into.mkdir(parents=True, exist_ok=True)
        return _extract(data, into, max_bytes=max_bytes, max_files=max_files)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        _empty(into)
        raise SnapshotError(f"These bytes are not a snapshot: {error}.") from error
    except OSError as error:
        _empty(into)
        raise SnapshotError(
            f"The snapshot could not be unpacked into {into}: {error.strerror}.", "Is the disk full, or not writable?"
        ) from error
    except BaseException:
        _empty(into)
        raise


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # the disk that would not take the snapshot
        folder.mkdir()


def _extract(data: bytes, into: Path, *, max_bytes: int, max_files: int) -> int:
    stream = _Bounded(data, max_bytes + max_files * OVERHEAD_BYTES)
    seen: set[str] = set()
    folders: set[str] = set()
    links: dict[str, str] = {}
    total = 0
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            above = _check(member, into, seen, folders)
            total += member.size
            if total > max_bytes or len(seen) > max_files:
                raise SnapshotError("The snapshot unpacks to more than its limit.", _HINT)
            for folder in above:
                if folder not in folders:
                    (into / folder).mkdir()
                    folders.add(folder)
            if member.issym():
                (into / member.name).symlink_to(member.linkname)
                links[member.name] = member.linkname
            else:
                _extract_file(tar, member, into / member.name)
    while stream.read(1 << 20):
        pass  # to its end, where the checksum is
    for link in links:
        if leads_out(links, link):
            raise SnapshotError(f"The snapshot's symbolic link {shown(link)} leads outside.")
    return total


def _check(member: tarfile.TarInfo, into: Path, seen: set[str], folders: set[str]) -> list[str]:
    """Refuse whatever :func:`write` does not write; return the member's folders, outermost first.

    Links are never written through: none of these folders is one.
    """
    name = member.name
    parts = name.split("/")
    if len(parts) > DEPTH or any(part in {"", ".", ".."} for part in parts) or "\0" in name:
        raise SnapshotError(f"The snapshot names a path that could lead outside: {shown(name[:200])}.")
    if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.SYMTYPE} or member.sparse is not None:
        raise SnapshotError(f"The snapshot holds something that is neither a file nor a link: {shown(name)}.")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    if name in seen or name in folders or not seen.isdisjoint(above):
        raise SnapshotError(f"The snapshot names {shown(name)} twice.")
    seen.add(name)
    if hasattr(tarfile, "data_filter"):  # Python >= 3.11.4: a second pair of eyes
        tarfile.data_filter(member, str(into))
    return above


def _extract_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise SnapshotError(f"The snapshot holds no bytes for {shown(member.name)}.")
    mode = 0o755 if member.mode & 0o100 else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with source, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
