"""The door for wheels that foreign code has built: what comes in is an archive that was written anew by us."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from tta_tasks.foreign import ForeignTree

#: Largest wheel, most bytes and files in it, and largest of those that describe it.
MAX_WHEEL_BYTES, MAX_UNPACKED_BYTES, MAX_FILES, MAX_METADATA_BYTES = 512 << 20, 768 << 20, 50_000, 4 << 20
_CHUNK = 1 << 20


class BadWheel(ValueError):
    """What a build left is not taken for a wheel; the message says why."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that was looked at, and written anew."""

    filename: str
    #: Normalised.
    name: str
    version: Version
    #: What it needs, with the markers of its extras.
    requires: tuple[Requirement, ...]
    content: bytes

    def without_urls(self) -> bytes:
        """The archive as a resolver may read it: what it needs is asked for by name, wherever it comes from."""
        if not any(requirement.url for requirement in self.requires):
            return self.content
        into = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.content)) as old, zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as new:
            for info in old.infolist():
                content = old.read(info)
                if info.filename.endswith(".dist-info/METADATA") and info.filename.count("/") == 1:
                    content = _by_name(content)
                new.writestr(info, content)
        return into.getvalue()


def take(tree: ForeignTree, folder: str, expected: str | None = None) -> Wheel:
    """Take the one wheel in a folder that a build could write to.

    Args:
        tree: What the build could write to.
        folder: Where in there its wheel is.
        expected: The normalised name that it must have.

    Raises:
        BadWheel: There is none, or more than one, or it is not what is expected.
    """
    try:
        found = [each for each in tree.walk(folder, max_entries=100) if each.path.endswith(".whl")]
        if len(found) != 1:
            raise BadWheel(f"it left {len(found)} wheels")
        return read(
            found[0].path.rpartition("/")[2], tree.read_bytes(found[0].path, max_bytes=MAX_WHEEL_BYTES), expected
        )
    except OSError as error:
        raise BadWheel(f"its wheel cannot be taken: {error.strerror}") from error


def read(filename: str, content: bytes, expected: str | None = None) -> Wheel:
    """Look at a wheel, and write it anew.

    Raises:
        BadWheel: It is none, or another one than expected, or it would put files where none belong.
    """
    try:
        name, version, _, _ = parse_wheel_filename(filename)
        if expected not in {None, str(name)}:
            raise BadWheel(f"it is called {name}, not {expected}")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = list(_entries(archive))
            described = _description(name, version, entries)
            into = io.BytesIO()
            with zipfile.ZipFile(into, "w") as new:
                _copy(archive, entries, new)
            metadata = archive.read(f"{described}/METADATA").decode()
    except (
        InvalidWheelFilename,
        zipfile.BadZipFile,
        OSError,
        EOFError,
        UnicodeDecodeError,
        NotImplementedError,
        lzma.LZMAError,
        struct.error,
        zlib.error,
    ) as error:
        raise BadWheel(f"{filename} is no wheel: {error}") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise error if isinstance(error, BadWheel) else BadWheel(f"{filename} is no wheel: {error}") from error
    headers = HeaderParser().parsestr(metadata)
    try:
        if canonicalize_name(headers["Name"] or "") != name or Version(headers["Version"] or "") != version:
            raise BadWheel(f"its metadata is that of {headers['Name']} {headers['Version']}, not of {filename}")
        requires = tuple(Requirement(each) for each in headers.get_all("Requires-Dist") or ())
    except (InvalidVersion, InvalidRequirement) as error:
        raise BadWheel(f"its metadata does not hold: {error}") from error
    return Wheel(filename, str(name), version, requires, into.getvalue())


def _entries(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The files in it, in its order, each looked at by what the archive says of it."""
    infos = archive.infolist()
    if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_UNPACKED_BYTES:
        raise BadWheel(f"it holds more than {MAX_UNPACKED_BYTES:,} bytes or {MAX_FILES:,} files")
    seen: set[str] = set()
    for info in infos:
        path = PurePosixPath(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.filename.endswith("/"):
            continue
        if (
            kind not in {0, stat.S_IFREG}
            or path.is_absolute()
            or ".." in path.parts
            or str(path) != info.filename
            or not info.filename.isprintable()
            or any(letter in info.filename for letter in '\\:*?"<>|')
            or info.filename in seen
            or info.flag_bits & 1
        ):
            raise BadWheel(f"it holds {info.filename!r}, which no wheel may hold")
        seen.add(info.filename)
        yield info


def _description(name: str, version: Version, entries: list[zipfile.ZipInfo]) -> str:
    """The folder that describes the distribution: there must be one, of its name."""
    folders = {top for info in entries if (top := info.filename.partition("/")[0]).endswith(".dist-info")}
    if len(folders) != 1:
        raise BadWheel(f"it holds {len(folders)} distributions")
    folder = folders.pop()
    named, _, numbered = folder.removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(named) != name or Version(numbered) != version:
        raise BadWheel(f"it is described by {folder}")
    sizes = {info.filename: info.file_size for info in entries}
    for file in ("METADATA", "WHEEL", "RECORD"):
        if sizes.get(f"{folder}/{file}", MAX_METADATA_BYTES + 1) > MAX_METADATA_BYTES:
            raise BadWheel(f"it has no {file}, or a very large one")
    return folder


def _copy(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], new: zipfile.ZipFile) -> None:
    """Write each file again, as long as the archive holds no more than it says."""
    for info in entries:
        plain = zipfile.ZipInfo(info.filename, max(info.date_time, (1980, 1, 1, 0, 0, 0)))
        plain.external_attr = (stat.S_IFREG | (0o755 if (info.external_attr >> 16) & 0o100 else 0o644)) << 16
        plain.compress_type, plain.file_size = zipfile.ZIP_DEFLATED, info.file_size
        left = info.file_size
        with archive.open(info) as source, new.open(plain, "w") as target:
            while chunk := source.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                target.write(chunk)
        if left:
            raise BadWheel(f"{info.filename} is not as large as it says")


def _by_name(metadata: bytes) -> bytes:
    lines = []
    for line in metadata.decode().split("\n"):
        field, _, value = line.partition(": ")
        lines.append(f"{field}: {by_name(Requirement(value))}" if field.lower() == "requires-dist" else line)
    return "\n".join(lines).encode()


def by_name(requirement: Requirement, url: str = "") -> str:
    """A requirement with another URL, or none."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    where = f" @ {url}" if url else str(requirement.specifier if not requirement.url else "")
    return f"{requirement.name}{extras}{where}{f' ; {requirement.marker}' if requirement.marker else ''}"
