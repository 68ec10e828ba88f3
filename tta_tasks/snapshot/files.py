"""Which files of a tree belong into its snapshot, and why others do not."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from tta_tasks.errors import SnapshotError
from tta_tasks.git import GitFailed, Repository, opened

#: What tools and tests leave behind, and what never belongs to a tree.
JUNK = frozenset(
    {".git", ".tta", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".coverage"}
)
#: Beside that, what people keep in a folder that is no repository.
INSTALLED = frozenset({".venv", "node_modules"})
#: A .gitignore above this size is not one.
GITIGNORE_BYTES = 1 << 20
#: Names given in a message before the rest is counted.
SHOWN = 3
#: Folders in folders; deeper trees are an attack or an accident.
DEPTH = 100
#: Symbolic links followed before it is taken for a circle, as the kernel does.
HOPS = 40


@dataclass(frozen=True)
class Entry:
    """A file or symbolic link of a tree."""

    #: Relative and POSIX; bytes that are no UTF-8 are surrogates.
    path: str
    size: int = 0
    executable: bool = False
    #: Where a symbolic link points; ``None`` for a file.
    target: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a tree, sorted by their names' bytes."""

    entries: tuple[Entry, ...]
    #: Path -> why it is not among them.
    left_out: Mapping[str, str] = field(default_factory=dict)

    def warnings(self) -> tuple[str, ...]:
        """One line for each reason, with a few names and the count of the others."""
        by_reason = defaultdict(list)
        for path, reason in self.left_out.items():
            by_reason[reason].append(path)
        return tuple(f"Left out, because {reason}: {some(paths)}." for reason, paths in by_reason.items())


def shown(path: str) -> str:
    """``path`` as it may be printed anywhere."""
    return path.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()


def some(paths: Iterable[str]) -> str:
    """A few of ``paths``, and how many more there are."""
    ordered = sorted(paths)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(map(shown, ordered[:SHOWN])) + more


def is_junk(path: str) -> bool:
    """Whether any part of ``path`` names something tools leave behind."""
    return any(part in JUNK or part.startswith(".coverage.") for part in path.split("/"))


def describe(root: Path, paths: Iterable[str], left_out: Mapping[str, str] | None = None) -> Listing:
    """Look at each of ``paths`` below ``root``; what is gone is left out silently, what cannot travel with its reason.

    Raises:
        SnapshotError: A file cannot be looked at.
    """
    entries, reasons = [], dict(left_out or {})
    folders: dict[str, bool] = {}
    for path in sorted(set(paths), key=os.fsencode):
        try:
            if not _in_real_folder(root, path, folders):
                continue  # its folder was replaced by a link; git counts it as deleted, too
            found = _entry(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SnapshotError(f"{shown(path)} cannot be read: {error.strerror}.") from error
        if isinstance(found, Entry):
            entries.append(found)
        else:
            reasons[path] = found
    return Listing(tuple(entries), reasons)


def _entry(root: Path, path: str) -> Entry | str:
    """What is at ``path``, or why it is left out."""
    status = (root / path).lstat()
    if path.count("/") >= DEPTH:
        return "it is nested too deeply"
    if stat.S_ISREG(status.st_mode):
        return Entry(path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
    if stat.S_ISLNK(status.st_mode):
        if leads_out(root, path):
            return "it is a symbolic link that leads outside"
        return Entry(path, target=_link_target(root / path))
    return "it is neither a file nor a link"


def _in_real_folder(root: Path, path: str, known: dict[str, bool]) -> bool:
    folder = ""
    for part in path.split("/")[:-1]:
        folder = f"{folder}/{part}" if folder else part
        if folder not in known:
            known[folder] = not (root / folder).is_symlink()
        if not known[folder]:
            return False
    return True


def leads_out(root: Path, link: str) -> bool:
    """Whether the symbolic link at ``link`` leaves ``root``, or goes in circles, wherever ``root`` may be.

    The kernel's walk, one component at a time: unlike a resolved path it does not depend on where ``root`` is, so that
    the answer for a checkout elsewhere is the same.
    """
    pending = link.split("/")[::-1]
    at: list[str] = []
    hops = 0
    while pending:
        part = pending.pop()
        if part == ".." and not at:
            return True
        if part == "..":
            at.pop()
        elif part not in {"", "."}:
            at.append(part)
            target = _link_target(root.joinpath(*at))
            if target is not None:
                hops += 1
                if target.startswith("/") or hops > HOPS:
                    return True
                at.pop()
                pending.extend(target.split("/")[::-1])
    return False


def _link_target(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - a Path would lose a trailing slash and "."
    except OSError:
        return None


# -- finding ----------------------------------------------------------------------------------------------------------


@contextmanager
def work_tree(root: Path) -> Iterator[Repository]:
    """The git work tree that holds ``root``.

    Raises:
        SnapshotError: git refuses it, or a command in the context fails.
    """
    try:
        with opened(root, error=SnapshotError) as repository:
            yield repository
    except GitFailed as error:
        raise SnapshotError(f"git cannot read {root}: {error}.", "Is it a sound work tree of yours?") from error


def tracked(repository: Repository) -> Listing:
    """The files below the repository's folder that git tracks, as they are in the working tree.

    Raises:
        GitFailed: git refuses.
        SnapshotError: A file cannot be looked at.
    """
    records = repository.run("ls-files", "-z", "--stage").split(b"\0")[:-1]
    paths, submodules = [], {}
    for record in records:
        described, _, name = record.partition(b"\t")
        path = os.fsdecode(name)
        if described.startswith(b"160000"):
            submodules[path] = "it is a submodule"
        elif not is_junk(path):
            paths.append(path)
    return describe(repository.folder, paths, submodules)


def untracked_modules(repository: Repository) -> list[str]:
    """Python files below the repository's folder that git neither tracks nor ignores.

    Raises:
        GitFailed: git refuses.
    """
    names = repository.run("ls-files", "-z", "--others", "--exclude-standard", "--", "*.py")
    return [path for path in map(os.fsdecode, names.split(b"\0")[:-1]) if not is_junk(path)]


def folder(root: Path, *, max_files: int, gitignore: bool) -> Listing:
    """All files below ``root`` but junk.

    Args:
        root: The folder.
        max_files: Give up above that.
        gitignore: Whether to leave out what the ``.gitignore`` files in it, and installed packages, name.

    Raises:
        SnapshotError: A folder cannot be read, or there are too many files.
    """
    found: list[str] = []
    try:
        for path in _walk(root, gitignore=gitignore):
            found.append(path)
            if len(found) > max_files:
                raise SnapshotError(f"{root} has more than {max_files:,} files.", "Raise TTA_MAX_SNAPSHOT_FILES.")
    except OSError as error:
        raise SnapshotError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return describe(root, found)


def _walk(root: Path, *, gitignore: bool) -> Iterator[str]:
    pending: list[tuple[str, tuple[tuple[str, GitIgnoreSpec], ...]]] = [("", ())]
    while pending:
        prefix, rules = pending.pop()
        if gitignore:
            rules = (*rules, *_rules(root, prefix))
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                path, is_folder = f"{prefix}{entry.name}", entry.is_dir(follow_symlinks=False)
                name = f"{path}/" if is_folder else path
                if is_junk(entry.name) or (gitignore and (entry.name in INSTALLED or _ignored(name, rules))):
                    continue
                if is_folder:
                    pending.append((name, rules))
                else:
                    yield path


def _rules(root: Path, prefix: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
    path = root / prefix / ".gitignore"
    if path.is_file() and not path.is_symlink() and path.stat().st_size <= GITIGNORE_BYTES:
        yield prefix, GitIgnoreSpec.from_lines(path.read_text("utf-8", "surrogateescape").splitlines())


def _ignored(path: str, rules: tuple[tuple[str, GitIgnoreSpec], ...]) -> bool:
    """The deepest .gitignore that says anything about ``path`` decides, as in git."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(path.removeprefix(prefix)).include
        if verdict is not None:
            return verdict
    return False
