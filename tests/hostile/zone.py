"""The rest of the disk, as far as a batch can know it: canaries that hostile code aims at, and what became of them.

A :class:`Zone` is a home, a state folder, a neighbour's repository and some files and sockets, all made for one batch.
Each file holds a secret of the batch. Nothing in it may change, nothing of it may be read, nobody may call its
listeners, and its secret may turn up nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import socket
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

#: Larger files of an example are not looked through for secrets; hostile ones are sparse and have none.
MOST_BYTES = 32 << 20
#: Long ago: a file's time of access is renewed by the first reading after it.
LONG_AGO = 978_307_200
_CHUNK = 1 << 20

#: Name in examples -> place in the zone. Those of the home are what people have there.
FILES = {
    "ssh": "home/.ssh/id_ed25519",
    "aws": "home/.aws/credentials",
    "netrc": "home/.netrc",
    "token": "home/.config/gh/hosts.yml",
    "notes": "home/notes.txt",
    "profile": "home/.profile",
    "stack": "state/.tta/stack.json",
    "targets": "state/.tta/targets.toml",
    "key": "secrets/signing_key",
    "other": "neighbour/src/module.py",
    "config": "neighbour/.git/config",
    "file": "canaries/file.py",
    "toml": "canaries/file.toml",
    "lock": "canaries/.lock",
}
FOLDERS = {
    "home": "home",
    "ssh_folder": "home/.ssh",
    "state": "state/.tta",
    "secrets": "secrets",
    "neighbour": "neighbour",
    "folder": "canaries",
}
#: Read by the product itself where it has a reason to.
OWN = frozenset({"key"})

_Stamp = tuple[object, ...]


@dataclass
class Zone:
    """The canaries of one batch.

    Attributes:
        folder: Where they are; made here.
    """

    folder: Path
    secret: str = field(default_factory=lambda: f"canary{secrets.token_hex(16)}")
    #: How often somebody called.
    calls: int = 0
    port: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _before: dict[str, _Stamp] = field(default_factory=dict)
    #: Whether this file system tells when a file was read.
    tells_reads: bool = False

    def __enter__(self) -> Self:
        for name, place in FILES.items():
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            comment = '{"broker_url": "SECRET"}' if name == "stack" else "# SECRET\nvalue = 'SECRET'\n"
            path.write_text(comment.replace("SECRET", self.secret))
            path.chmod(0o600)
            os.utime(path, (LONG_AGO, LONG_AGO + 1))
        os.mkfifo(self.folder / "canaries" / "pipe")
        (self.folder / "canaries" / "link").symlink_to("file.py")
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        unix = socket.socket(socket.AF_UNIX)
        with contextlib.chdir(self.folder / "canaries"):  # a socket's name must be short
            unix.bind("socket")
        unix.listen()
        for listening in (tcp, unix):
            self._open.append(listening)
            threading.Thread(target=self._count, args=(listening,), daemon=True).start()
        self.tells_reads = self._tries_reading()
        self._before = self.stamps()
        return self

    def __exit__(self, *_: object) -> None:
        for listening in self._open:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def path(self, name: str) -> Path:
        """The place of a canary."""
        return self.folder / (FILES | FOLDERS)[name]

    def breaches(self) -> list[str]:
        """What happened to the canaries since the last call, or the beginning."""
        now = self.stamps()
        places = sorted(path for path in {*now, *self._before} if now.get(path) != self._before.get(path))
        found = [f"{_how(self._before.get(path), now.get(path))}: {path}" for path in places]
        if self.calls:
            found.append(f"called: a listener of the host, {self.calls} times")
        self._before, self.calls = now, 0
        return found

    def forget(self) -> None:
        """Take what is there for what shall stay."""
        self._before, self.calls = self.stamps(), 0

    def stamps(self) -> dict[str, _Stamp]:
        """All there is, by path relative to the zone."""
        own = {FILES[name] for name in OWN}
        return {
            path.relative_to(self.folder).as_posix(): _stamp(path, read=path.relative_to(self.folder).as_posix() in own)
            for path in _below(self.folder)
        }

    def leaks(self, said: Iterable[str | bytes]) -> bool:
        """Whether any of ``said`` carries the secret, also inside of an archive."""
        secret = self.secret.encode()
        contents = (text if isinstance(text, bytes) else text.encode(errors="replace") for text in said)
        return any(secret in part for content in contents for part in (content, *_unpacked(content)))

    def carriers(self, folder: Path) -> list[str]:
        """Files below ``folder`` that carry the secret, also inside of archives."""
        return [str(path.relative_to(folder)) for path in _below(folder) if self._carries(path)]

    def _carries(self, path: Path) -> bool:
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                return self.secret in str(path.readlink())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
                return False
            content = path.read_bytes()
        except OSError:
            return False
        return self.leaks([content])

    def _count(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                self.calls += 1
                client.close()

    def _tries_reading(self) -> bool:
        path = self.folder / "canaries" / "tried"
        path.write_text("x")
        os.utime(path, (LONG_AGO, LONG_AGO + 1))
        path.read_text()
        told = path.stat().st_atime != LONG_AGO
        path.unlink()
        return told


def _how(before: _Stamp | None, now: _Stamp | None) -> str:
    if before is None or now is None:
        return "appeared" if before is None else "vanished"
    return "read" if before[:-1] == now[:-1] else "changed"


def _stamp(path: Path, *, read: bool) -> _Stamp:
    """All that anybody could change about a file; at the end when it was read, unless it may be ``read``."""
    status = path.lstat()
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        # Without leaving a trace of our own reading.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0))
        with os.fdopen(descriptor, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    plain = (status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_size, status.st_mtime_ns, content)
    return (*plain, status.st_atime_ns if stat.S_ISREG(status.st_mode) and not read else 0)


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, whatever it is; links are not followed, and what vanishes is none."""
    pending = [str(folder)]
    while pending:
        at = pending.pop()
        with contextlib.suppress(OSError), os.scandir(at) as entries:
            for entry in entries:
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _unpacked(content: bytes) -> Iterator[bytes]:
    """What is in an archive, within bounds."""
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(31).decompress(content, MOST_BYTES)
    if content.startswith(b"PK"):
        with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with contextlib.suppress(Exception), archive.open(member) as file:
                    yield file.read(_CHUNK)


# -- what is no zone of ours -----------------------------------------------------------------------------------------

#: Beside the zone: what a breach would most likely reach. Only looked at: inode, size, mode and times.
HOST_FOLDERS = ("/etc", "/usr/local/bin", "/usr/local/lib", "~/.ssh", "~/.gnupg", "~/.aws", "~/.config", "~/.local/bin")
HOST_FILES = ("~/.bashrc", "~/.bash_profile", "~/.profile", "~/.zshrc", "~/.netrc", "~/.gitconfig", "~/.pypirc")
#: Written by whoever uses the checkout meanwhile, and by its tools.
_PASSING = frozenset({".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"})


def cache_stamps(cache: Path) -> dict[str, tuple[int, ...]]:
    """What a host keeps for all repositories: what is there stays as it is, whatever one of them does."""
    stamps: dict[str, tuple[int, ...]] = {}
    for path in _below(cache):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and path.suffix != ".lock" and path.name not in {"lock", ".lock"}:
                stamps[str(path.relative_to(cache))] = (
                    status.st_ino,
                    status.st_mode,
                    status.st_size,
                    status.st_mtime_ns,
                )
    return stamps


def host_stamps(checkout: Path, home: Path) -> dict[str, tuple[int, ...]]:
    """What is at the usual targets of this host, and in the checkout that is tested, its environment included.

    Args:
        checkout: The repository's root.
        home: The home of whoever runs the tests.
    """
    places = [Path(name.replace("~", str(home), 1)) for name in (*HOST_FOLDERS, *HOST_FILES)]
    stamps: dict[str, tuple[int, ...]] = {}
    for place in (*places, checkout):
        for path in (place, *_below(place)):
            if _PASSING.isdisjoint(path.parts) or place != checkout:
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if not stat.S_ISDIR(status.st_mode) and path.suffix != ".pyc":
                        # A further name, as uv gives what it has in its cache, is no change.
                        changed = status.st_ctime_ns if status.st_nlink == 1 else status.st_mtime_ns
                        stamps[str(path)] = (status.st_ino, status.st_mode, status.st_size, changed)
    return stamps
