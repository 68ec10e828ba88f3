"""One environment of one component on this host's disk.

    releases/<digest>/     a virtual environment with the release in it, and the wheel it was made of
        tta-release.json   written last: without it, the release was never finished
    current                a symbolic link to the release in use
    history.jsonl          what happened, oldest first

The link and the releases are the truth; the history is written before a switch and after it, so that one which was
interrupted in between is seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tta_tasks.environments import way_back
from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import ReleaseEntry
from tta_tasks.protocols import History

#: Lines of history kept.
MAX_HISTORY = 200
#: Seconds to wait for another deployment to the same environment.
LOCK_S = 900.0

What = Literal["switching", "released", "returned", "rolled_back", "interrupted"]

_RELEASES = "releases"
_MARKER = "tta-release.json"


class Site:
    """The folder of one environment.

    Args:
        base: Its path; made when it is first needed.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.link = base / "current"
        self._history = base / "history.jsonl"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the environment; the kernel frees the lock when this process dies.

        Raises:
            DeploymentFailed: Another deployment did not end in time.
        """
        (self.base / _RELEASES).mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.base / ".lock", timeout=LOCK_S):
                yield
        except Timeout as error:
            raise DeploymentFailed(
                f"Another deployment to {self.base} has been going on for {LOCK_S:.0f} s.", "Try again when it is over."
            ) from error

    def fence(self, token: float) -> None:
        """Let nothing older than ``token`` in from now on; the lock must be held.

        Raises:
            DeploymentFailed: Something newer was here before.
        """
        path = self.base / "fence"
        seen = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
        if token < seen:
            raise DeploymentFailed(
                f"A deployment to {self.base} that was begun later has come before this one, which is given up.",
                "Nothing has changed; deploy again if it is this release that should be in use.",
            )
        if token > seen:
            write(path, repr(token))

    # -- releases --------------------------------------------------------------------------------------------------

    def folder(self, digest: str) -> Path:
        """Where a release is, or goes."""
        return self.base / _RELEASES / digest

    def complete(self, digest: str | None) -> bool:
        """Whether a release is there, and was finished."""
        return digest is not None and (self.folder(digest) / _MARKER).is_file()

    def finish(self, digest: str, about: dict[str, str]) -> None:
        """Mark a release as finished; all of it must be there."""
        write(self.folder(digest) / _MARKER, json.dumps({"release": digest, **about}, indent=2) + "\n")

    def freshen(self, digest: str) -> None:
        """Make a release the newest."""
        os.utime(self.folder(digest) / _MARKER)

    def clear(self, digest: str) -> Path:
        """An empty folder for a release."""
        self.remove(digest)
        self.folder(digest).mkdir()
        return self.folder(digest)

    def remove(self, digest: str) -> None:
        """Take a release away; its marker first, so that half of one is never taken for one."""
        (self.folder(digest) / _MARKER).unlink(missing_ok=True)
        if self.folder(digest).exists():
            shutil.rmtree(self.folder(digest))

    def releases(self) -> list[str]:
        """Finished releases, newest first."""
        finished = [path.name for path in self._folders() if self.complete(path.name)]
        return sorted(finished, key=lambda name: (self.folder(name) / _MARKER).stat().st_mtime_ns, reverse=True)

    def prune(self, keep: int, needed: Collection[str | None]) -> None:
        """Remove all but the newest ``keep`` releases and those ``needed``, and whatever was never finished."""
        kept = {*self.releases()[:keep], *needed}
        for path in self._folders():
            if path.name not in kept:
                self.remove(path.name)

    def _folders(self) -> list[Path]:
        releases = self.base / _RELEASES
        return [path for path in releases.iterdir() if path.is_dir()] if releases.is_dir() else []

    # -- the release in use ----------------------------------------------------------------------------------------

    def current(self) -> str | None:
        """The release in use; ``None`` where there is none, or not all of it."""
        try:
            target = self.link.readlink()
        except FileNotFoundError:
            return None
        return target.name if target.parent.name == _RELEASES and self.complete(target.name) else None

    def switch(self, digest: str | None) -> None:
        """Put another release into use in one step; ``None`` leaves none in use."""
        if digest is None:
            self.link.unlink(missing_ok=True)
        else:
            new = self.base / "current.new"
            new.unlink(missing_ok=True)
            new.symlink_to(Path(_RELEASES, digest))
            new.replace(self.link)
        _sync(self.base)

    # -- history ---------------------------------------------------------------------------------------------------

    def history(self) -> list[ReleaseEntry]:
        """What happened, oldest first."""
        try:
            lines = self._history.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        entries: list[ReleaseEntry] = []
        for line in lines:
            with contextlib.suppress(ValidationError):  # a line that somebody touched is no reason to stop
                entries.append(ReleaseEntry.model_validate_json(line))
        return entries

    def way_back(self) -> list[str]:
        """The releases that can be gone back to and are still here; the latest first."""
        return [digest for digest in way_back(self.told()) if self.complete(digest)]

    def told(self) -> History:
        """The release in use, and what happened."""
        return History(self.current(), tuple(self.history()))

    def record(self, what: What, release: str, previous: str | None, *, run_id: str = "", task_id: str = "") -> None:
        """Add to the history, on disk when this returns."""
        entry = ReleaseEntry(
            at=time.time(), what=what, release=release, previous=previous, run_id=run_id, task_id=task_id
        )
        entries = [*self.history(), entry][-MAX_HISTORY:]
        write(self._history, "".join(f"{entry.model_dump_json()}\n" for entry in entries))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file as a whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
