"""The releases of one component in one environment, on this host's disk.

    releases/<digest>/     the files of one release
        tta-release.json   written last: without it the release is incomplete, and is installed again
    current                a symbolic link to the release in use
    history.jsonl          one ReleaseEntry per line, oldest first
    fence                  the newest fencing token that deployed here

The link and the releases are the truth. The history is written before a switch and after it, so that the next
deployment finds one that was interrupted in between.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from tta_tasks.environments import rollback_candidates
from tta_tasks.errors import DeploymentFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import ReleaseEntry
from tta_tasks.protocols import History

log = logging.getLogger(__name__)

#: Lines of history kept.
MAX_HISTORY = 200
#: Seconds to wait for another deployment to the same environment.
LOCK_S = 900.0
#: Version of what is written to ``history.jsonl`` and ``tta-release.json``.
VERSION: Final = 1

Event = Literal["switching", "released", "returned", "rolled_back", "interrupted"]

_RELEASES = "releases"
_MARKER = "tta-release.json"
_DETAILS: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


class ReleaseStore:
    """The folder of one component in one environment.

    Args:
        base: Its path; created by the first deployment.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        #: The symbolic link to the release in use.
        self.link = base / "current"
        self._history = base / "history.jsonl"

    @contextlib.contextmanager
    def locked(self, token: float) -> Iterator[None]:
        """Hold the environment's lock; the kernel frees it when this process dies.

        Args:
            token: The fencing token of this deployment. A smaller one is refused from now on.

        Raises:
            DeploymentFailed: Another deployment did not end in time, one with a larger token was here before, or the
                disk refuses a write.
        """
        try:
            (self.base / _RELEASES).mkdir(parents=True, exist_ok=True)
            with FileLock(self.base / ".lock", timeout=LOCK_S):
                self._fence(token)
                yield
        except Timeout as error:
            raise DeploymentFailed(
                f"Another deployment to {self.base} has been going on for {LOCK_S:.0f} s.",
                "Try again when it is over.",
            ) from error
        except OSError as error:
            raise DeploymentFailed(
                f"The release cannot be written to {self.base}: {error}.",
                "See that the worker may write there, and that there is room.",
            ) from error

    def _fence(self, token: float) -> None:
        path = self.base / "fence"
        try:
            seen = float(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            seen = 0.0
        except ValueError as error:
            raise DeploymentFailed(
                f"{path} does not hold the token of the newest deployment: {error}.",
                "Remove it if no other deployment to this environment is waiting, and deploy again.",
            ) from error
        if token < seen:
            raise DeploymentFailed(
                f"A deployment to {self.base} that was begun later has come before this one, which is given up.",
                "Nothing has changed; deploy again if it is this release that should be in use.",
            )
        if token > seen:
            write(path, repr(token))

    # -- releases --------------------------------------------------------------------------------------------------

    def folder(self, digest: str) -> Path:
        """The folder of a release, whether it exists or not."""
        return self.base / _RELEASES / digest

    def is_complete(self, digest: str | None) -> bool:
        """Whether a release is there, and was installed to its end."""
        return digest is not None and self._tree(digest).is_file(_MARKER)

    def mark_complete(self, digest: str, details: Mapping[str, object] | None = None) -> None:
        """Mark a release as installed to its end.

        Args:
            digest: The release.
            details: Written to its marker, for a person to read and for :meth:`details`.
        """
        marker = {"version": VERSION, "release": digest, **(details or {})}
        # Programs of the release ran in its folder: nothing there is written through.
        self._tree(digest).write_text(_MARKER, json.dumps(marker, indent=2) + "\n")
        os.sync()

    def details(self, digest: str) -> Mapping[str, object]:
        """Return what the marker of a release says; nothing where there is none that can be read."""
        try:
            return self._tree(digest).read_json(_MARKER, _DETAILS, max_bytes=1 << 20)
        except OSError:
            return {}

    def touch(self, digest: str) -> None:
        """Make a release the newest."""
        os.utime(self.folder(digest) / _MARKER, follow_symlinks=False)

    def clear(self, digest: str) -> Path:
        """Return an empty folder for a release."""
        self.remove(digest)
        self.folder(digest).mkdir()
        return self.folder(digest)

    def remove(self, digest: str) -> None:
        """Delete a release; its marker first, so that half of one never counts as complete."""
        if self._tree(digest).exists(_MARKER):
            self._tree(digest).remove(_MARKER)
        ForeignTree(self.base / _RELEASES).remove(digest)

    def releases(self) -> list[str]:
        """Return the complete releases, newest first."""
        complete = [path.name for path in self._folders() if self.is_complete(path.name)]
        return sorted(complete, key=lambda name: (self.folder(name) / _MARKER).lstat().st_mtime_ns, reverse=True)

    def prune(self, keep: int, needed: Collection[str | None]) -> None:
        """Delete all but the newest ``keep`` releases and those ``needed``, and all incomplete ones."""
        kept = {*self.releases()[:keep], *needed}
        for path in self._folders():
            if path.name not in kept:
                self.remove(path.name)

    def _tree(self, digest: str) -> ForeignTree:
        return ForeignTree(self.folder(digest))

    def _folders(self) -> list[Path]:
        releases = self.base / _RELEASES
        return [path for path in releases.iterdir() if path.is_dir()] if releases.is_dir() else []

    # -- the release in use ----------------------------------------------------------------------------------------

    def current(self) -> str | None:
        """Return the release in use; ``None`` if there is none, or it is incomplete."""
        try:
            target = self.link.readlink()
        except FileNotFoundError:
            return None
        return target.name if target.parent.name == _RELEASES and self.is_complete(target.name) else None

    def set_current(self, digest: str | None) -> None:
        """Point the link to another release in one step; ``None`` removes the link."""
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
        """Return what happened, oldest first; a line that cannot be read is reported to the log and left out."""
        entries: list[ReleaseEntry] = []
        unreadable: list[str] = []
        for number, line in enumerate(self._lines(), start=1):
            try:
                entries.append(ReleaseEntry.model_validate_json(line, extra="ignore"))
            except ValidationError:
                unreadable.append(str(number))
        if unreadable:
            log.warning(
                "%s: the history leaves out what cannot be read (line %s).", self._history, ", ".join(unreadable)
            )
        return entries

    def rollback_candidates(self) -> list[str]:
        """Return the releases that can be rolled back to and are still here, the latest first."""
        return [digest for digest in rollback_candidates(self.release_history()) if self.is_complete(digest)]

    def release_history(self) -> History:
        """Return the release in use, and what happened."""
        return History(self.current(), tuple(self.history()))

    def record(self, event: Event, release: str, previous: str | None, *, run_id: str = "", task_id: str = "") -> None:
        """Add to the history; it is on the disk when this returns. Lines that cannot be read stay as they are."""
        entry = ReleaseEntry(
            at=time.time(), what=event, release=release, previous=previous, run_id=run_id, task_id=task_id
        )
        line = json.dumps({"version": VERSION, **entry.model_dump(mode="json")})
        write(self._history, "".join(f"{line}\n" for line in [*self._lines(), line][-MAX_HISTORY:]))

    def _lines(self) -> list[str]:
        try:
            return self._history.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []


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
