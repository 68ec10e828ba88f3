"""Hostile wheels, archives and patches as bytes, and the interpreter that hostile code has taken over."""

# ruff: noqa: E501 - tables read better so
from __future__ import annotations

import base64
import gzip
import io
import json
import lzma
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Literal

from tests.hostile import places
from tests.hostile.examples import Answer, Archive, Hunk, Wheel
from tests.hostile.places import Place
from workers.sandbox import PYTHON

_KINDS = {
    "file": stat.S_IFREG | 0o644,
    "link": stat.S_IFLNK | 0o777,
    "folder": stat.S_IFDIR | 0o755,
    "fifo": stat.S_IFIFO | 0o644,
    "device": stat.S_IFCHR | 0o666,
    "setuid": stat.S_IFREG | 0o6755,
}
_METADATA = {
    "right": "Metadata-Version: 2.1\nName: calc\nVersion: 1.0\n",
    "other-name": "Metadata-Version: 2.1\nName: pip\nVersion: 1.0\n",
    "other-version": "Metadata-Version: 2.1\nName: calc\nVersion: 99\n",
    "empty": "",
    "path": "Metadata-Version: 2.1\nName: ../../calc\nVersion: ../1\n",
    "requires": "Metadata-Version: 2.1\nName: calc\nVersion: 1.0\nRequires-Dist: calc @ file://@neighbour\n",
    "long": "Metadata-Version: 2.1\nName: calc\nVersion: 1.0\n" + "Keywords: x\n" * 20_000,
}
_MODULES = ("__init__.py", "ops.py", "_deeds.py")
#: Bytes of a member that was compressed a thousandfold.
BOMB_BYTES = 300 << 20


@cache
def _bomb() -> tuple[bytes, int]:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(BOMB_BYTES >> 20)) + packer.flush()
    return packed, zlib.crc32(bytes(BOMB_BYTES))


# -- wheels ------------------------------------------------------------------------------------------------------------


def wheel_bytes(wheel: Wheel, place: Place) -> bytes:
    """The wheel as a ZIP archive; beside its entries it holds the modules of the example's tree."""
    packed = io.BytesIO()
    members = {f"calc/{name}": (place.tree / "src/calc" / name).read_text(encoding="utf-8") for name in _MODULES}
    if wheel.metadata != "none":
        members["calc-1.0.dist-info/METADATA"] = place.word(_METADATA.get(wheel.metadata, _METADATA["right"]))
        members["calc-1.0.dist-info/WHEEL"] = (
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        members["calc-1.0.dist-info/entry_points.txt"] = "[console_scripts]\ncalc = calc.ops:half\n"
        members["calc-1.0.dist-info/RECORD"] = ""
    if wheel.metadata == "two":
        members["evil-1.0.dist-info/METADATA"] = _METADATA["other-name"]
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w") as archive:
        warnings.simplefilter("ignore")  # names that come twice
        for name, text in members.items():
            archive.writestr(name, text)
        for name, content, kind in wheel.entries:
            info = zipfile.ZipInfo(place.word(name).encode(errors="replace").decode())
            info.external_attr = _KINDS[kind] << 16
            if content == "bomb":
                info.compress_type = zipfile.ZIP_STORED
                _write_bomb(archive, info)
            else:
                archive.writestr(info, place.word(content).encode(errors="replace"))
    data = packed.getvalue()
    return {"cut": data[: len(data) // 2], "garbage": b"no wheel" * 50}.get(wheel.door, data)


def _write_bomb(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    packed, check = _bomb()
    archive.writestr(info, packed)
    # Said afterwards: the directory at the end is what readers go by.
    info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, BOMB_BYTES, check


def put_wheel(wheel: Wheel, place: Place, folder: Path) -> Path:
    """Put the wheel, or what takes its place, into a folder of the example; answer its path."""
    folder.mkdir(parents=True, exist_ok=True)
    content = place.tree / "wheel.bin"
    content.write_bytes(wheel_bytes(wheel, place))
    with chdir(place.tree):
        places.deeds().deliver(str(folder), wheel.name, wheel.door, place.word(wheel.target))
    return folder / wheel.name


# -- archives ----------------------------------------------------------------------------------------------------------

_TYPES = {
    "file": tarfile.REGTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "folder": tarfile.DIRTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
    "contiguous": tarfile.CONTTYPE,
    "weird": b"Z",
}
_FORMATS: dict[str, Literal[0, 1, 2]] = {"ustar": 0, "gnu": 1, "pax": 2}


def archive_bytes(archive: Archive, place: Place) -> bytes:
    """The archive, wrapped as it says."""
    tar = b"".join(_member(place, archive.format, *member) for member in archive.members) + bytes(1024)
    wrapped = gzip.compress(tar, 1, mtime=0)
    at = archive.at % max(len(wrapped), 1)
    return {
        "plain": lambda: tar,
        "xz": lambda: lzma.compress(tar, preset=0),
        "cut": lambda: wrapped[:at],
        "flipped": lambda: wrapped[:at] + bytes([wrapped[at] ^ 0xFF]) + wrapped[at + 1 :],
        "twice": lambda: wrapped + wrapped,
        "trailing": lambda: wrapped + b"\0garbage" * 10,
        "bomb": lambda: wrapped + _gzip_bomb(),
    }.get(archive.wrapping, lambda: wrapped)()


@cache
def _gzip_bomb() -> bytes:
    packed, check = _bomb()
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed + check.to_bytes(4, "little") + BOMB_BYTES.to_bytes(4, "little")


def _member(place: Place, form: str, name: str, kind: str, target: str, size: int) -> bytes:  # noqa: PLR0917 - a row
    info = tarfile.TarInfo(place.word(name))
    info.type, info.linkname = _TYPES[kind], place.word(target) if kind in {"link", "hard"} else ""
    content = b"x" * size if 0 < size < 1 << 16 and kind not in {"link", "hard"} else b""
    info.size = max(size, 0) if kind not in {"link", "hard", "folder"} else 0
    info.mode = 0o6777
    try:
        header = info.tobuf(_FORMATS[form], "utf-8", "surrogateescape")
    except (ValueError, UnicodeEncodeError):
        header = tarfile.TarInfo("plain").tobuf(tarfile.GNU_FORMAT)
        content = b""
    if size < 0:  # a size no writer writes, with the checksum it then has
        block = bytearray(header[:512])
        block[124:136] = b"-0000000001\0"
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        header = bytes(block) + header[512:]
    return header + content + bytes(-len(content) % 512)


# -- patches -----------------------------------------------------------------------------------------------------------


def patch_bytes(hunks: Iterable[Hunk], place: Place) -> bytes:
    """The hunks as git writes a patch."""
    return b"".join(_hunk(hunk, place) for hunk in hunks)


def _hunk(hunk: Hunk, place: Place) -> bytes:
    path, other = place.word(hunk.path), place.word(hunk.other)
    text = place.word(hunk.text).replace("\n", "")
    head = f"diff --git a/{path} b/{path}\n"
    names = f"--- a/{path}\n+++ b/{path}\n"
    null = "0" * 40
    body = {
        "new": f"{head}new file mode 100644\nindex {null}..{'1' * 40}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{text}\n",
        "edit": f"{head}{names}@@ -1,2 +1,3 @@\n import os, sys\n+# {text}\n from calc import _deeds\n",
        "delete": f"{head}deleted file mode 100644\n--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-# calc\n",
        "mode": f"{head}old mode 100644\nnew mode 100755\n",
        "link": f"{head}new file mode 120000\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{text}\n\\ No newline at end of file\n",
        "submodule": f"{head}new file mode 160000\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+Subproject commit {'1' * 40}\n",
        "rename": f"diff --git a/{path} b/{other}\nsimilarity index 100%\nrename from {path}\nrename to {other}\n",
        "copy": f"diff --git a/{path} b/{other}\nsimilarity index 100%\ncopy from {path}\ncopy to {other}\n",
        "binary": f"{head}new file mode 100644\nindex {null}..{'1' * 40}\nGIT binary patch\n{_literal(text.encode(errors='replace'), 0)}",
        "huge": f"{head}new file mode 100644\nindex {null}..{'1' * 40}\nGIT binary patch\n{_literal(b'x', 1 << 40)}",
        "delta": f"{head}index {null}..{'1' * 40}\nGIT binary patch\n{_literal(_delta(), 0).replace('literal', 'delta')}",
        "raw": f"{text}\n{head}{names}@@ -99999999999,1 +1,99999999 @@\n+{text}\n",
    }[hunk.how]
    return body.encode(errors="surrogateescape") if _encodable(body) else body.encode(errors="replace")


def _encodable(text: str) -> bool:
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _literal(content: bytes, said: int) -> str:
    packed = zlib.compress(content)
    line = base64.b85encode(packed[:52] + bytes(-len(packed[:52]) % 4)).decode()
    length = len(packed[:52])
    mark = chr(ord("A") + length - 1) if length <= 26 else chr(ord("a") + length - 27)
    return f"literal {said or len(content)}\n{mark}{line}\n\n"


def _delta() -> bytes:
    """Copies its base over and over."""
    return b"\x0e" + b"\xff\xff\xff\xff\x7f" + b"\x90\x0e" * 10


# -- an interpreter that hostile code has taken over -------------------------------------------------------------------

_USURPER = """\
import json, os, socket, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "plan.json"), encoding="utf-8", errors="surrogatepass") as file:
    plan = json.load(file)
named = [word for word in sys.argv[1:] if word.startswith("/")]
config = {}
for path in named:
    try:
        with open(path) as file:
            config = json.load(file)
    except Exception:
        pass
known = [word for word in config.values() if isinstance(word, str) and word.startswith("/")]
folder = config.get("folder") or config.get("scratch") or os.getcwd()
journals = [word for word in known if word.endswith((".jsonl", ".json")) and word not in named]
os.write(os.open(plan["mark"], os.O_WRONLY | os.O_NONBLOCK), b"x")
for what, how, data in plan["answers"]:
    data = data.encode(errors="surrogatepass") if isinstance(data, str) else b""
    if what == "stdout":
        os.write(1, data[:1 << 20])
        continue
    if what == "descriptor":
        for descriptor in range(3, 32):
            try:
                os.set_blocking(descriptor, False)
                os.write(descriptor, data)
            except OSError:
                pass
        continue
    for path in (journals if what == "journal" else [os.path.join(folder, what)]):
        try:
            if os.path.lexists(path) and (how != "text" or not os.path.isfile(path)):
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
            if how == "fifo":
                os.mkfifo(path)
            elif how == "folder":
                os.mkdir(path)
            elif how == "link":
                os.symlink(data, path)
            elif how == "socket":
                os.chdir(os.path.dirname(path))
                socket.socket(socket.AF_UNIX).bind(os.path.basename(path))
            elif how == "sparse":
                with open(path, "wb") as file:
                    file.truncate(64 << 30)
            elif how in ("long", "flood"):
                line = b'{"event": "start", "id": "x"}\\n' if how == "flood" else b"x" * 1000
                with open(path, "wb") as file:
                    for _ in range(100):
                        file.write(line * 500)
            elif how != "nothing":
                with open(path, "ab" if what == "journal" else "wb") as file:
                    file.write(data)
        except OSError:
            pass
os._exit(plan["status"])
"""


def put_usurper(place: Place, answers: Sequence[tuple[str, Answer]], status: int) -> Path:
    """Put a program into the example that gives ``answers`` to whatever an interpreter is asked; answer its path."""
    folder = place.tree / "usurper" / "bin"
    folder.mkdir(parents=True)
    told = [(what, *_told(answer, place)) for what, answer in answers]
    plan = {"answers": told, "status": status, "mark": str(place.mark)}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    program = folder / "python"
    program.write_text(f"#!{PYTHON} -IS\n{_USURPER}")
    program.chmod(0o755)
    return program


def _told(answer: Answer, place: Place) -> tuple[str, str]:
    if answer.how in {"events", "cases"}:
        items = place.word(answer.what)
        return "text", "".join(f"{json.dumps(item)}\n" for item in items)
    if answer.how == "link":
        return "link", place.word(answer.what)
    return answer.how, answer.what if isinstance(answer.what, str) else ""
