"""Snapshots: how a tree travels from a producer to workers without a shared file system.

    repository --take--> Snapshot --store--> SnapshotCache.checkout --> a task's own copy --pack--> Snapshot

A snapshot holds the files that belong to the tree as they are right now, uncommitted changes included, and nothing
that leads out of it. The same tree gives the same snapshot: ``pack(unpack(take(tree)))`` has ``take(tree)``'s digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tta_tasks.errors import SnapshotError
from tta_tasks.git import GitFailed, Repository, in_work_tree
from tta_tasks.snapshot import archive, files
from tta_tasks.snapshot.archive import unpack
from tta_tasks.stores.content import digest_of

__all__ = ["Snapshot", "pack", "take", "unpack"]


@dataclass(frozen=True)
class Snapshot:
    """A tree as an archive."""

    data: bytes
    #: sha256 of ``data``; its name in the artifact store.
    digest: str
    #: Files and symbolic links in it.
    files: int
    #: The commit checked out where it was taken; empty where there is none.
    commit: str = ""
    #: Whether the tree differs from ``commit``.
    dirty: bool = False
    #: What its owner should know: what was left out, and why.
    warnings: tuple[str, ...] = ()


def take(repository: Path, *, max_bytes: int, max_files: int) -> Snapshot:
    """Snapshot a repository: the files git tracks or, where it tracks none, all that no .gitignore names.

    Args:
        repository: A git work tree, a folder inside one (then it alone is taken), or a plain folder.
        max_bytes: Most bytes of all files together; larger trees are refused before anything is read.
        max_files: Most files.

    Raises:
        SnapshotError: It is no folder, holds nothing, is too large, or cannot be read.
    """
    if not repository.is_dir():
        raise SnapshotError(f"There is no folder {repository}.", "Name the folder that holds the repository.")
    root = repository.resolve()
    versioned = in_work_tree(root)
    listing, modules, commit, dirty = files.Listing(()), list[str](), "", False
    if versioned:
        with files.work_tree(root) as work_tree:
            listing = files.tracked(work_tree)
            modules = files.untracked_modules(work_tree)
            commit, dirty = _commit(work_tree)
    warnings: tuple[str, ...] = ()
    untracked = not (listing.entries or listing.left_out)
    if untracked:
        listing = files.folder(root, max_files=max_files, gitignore=True)
        if versioned:
            warnings = ("git tracks no file here: took all that no .gitignore names.",)
    elif modules:
        left_out = f"{len(modules)} Python files are not tracked by git and were left out: {files.some(modules)}."
        warnings = (f"{left_out} Run `git add -N` on those that belong to the repository.",)
    # What git does not track differs from any commit.
    dirty = dirty or (untracked and bool(commit))
    return _archived(root, listing, max_bytes, max_files, commit=commit, dirty=dirty, warnings=warnings)


def pack(tree: Path, *, max_bytes: int, max_files: int) -> Snapshot:
    """Snapshot a checkout: all its files but what tools leave behind (caches, bytecode, coverage data).

    Args:
        tree: The checkout; no repository.
        max_bytes: Most bytes of all files together.
        max_files: Most files.

    Raises:
        SnapshotError: It holds nothing, is too large, or cannot be read.
    """
    return _archived(tree, files.folder(tree, max_files=max_files, gitignore=False), max_bytes, max_files)


def _archived(
    root: Path,
    listing: files.Listing,
    max_bytes: int,
    max_files: int,
    *,
    commit: str = "",
    dirty: bool = False,
    warnings: tuple[str, ...] = (),
) -> Snapshot:
    archive.check_size(listing, root, max_bytes=max_bytes, max_files=max_files)
    data = archive.write(root, listing)
    return Snapshot(data, digest_of(data), len(listing.entries), commit, dirty, (*warnings, *listing.warnings()))


def _commit(repository: Repository) -> tuple[str, bool]:
    try:
        commit = repository.run("rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
    except GitFailed:
        return "", False  # nothing was committed yet
    status = repository.run("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", ".")
    return commit, bool(status)
