"""Which files of a tree belong into its snapshot, and why others do not."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from tta_tasks.errors import SnapshotError
from tta_tasks.foreign import ForeignTree, Found
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
#: Files, links and folders looked at for each file that a tree may have.
ENTRIES = 4
#: Symbolic links followed before it is taken for a circle, as the kernel does.
HOPS = 40
#: Components that are followed in all, of a link and those it leads over.
STEPS = 1000


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


def leads_out(links: Mapping[str, str], link: str) -> bool:
    """Whether the symbolic link at ``link`` leaves its tree, or goes in circles, wherever the tree may be.

    The kernel's walk, one component at a time, on what is known of the tree: nothing is looked at, so that the answer
    for a checkout elsewhere is the same.

    Args:
        links: Where the tree's links point, by their paths.
        link: One of them.
    """
    pending = link.split("/")[::-1]
    at: list[str] = []
    hops = steps = 0
    while pending:
        part = pending.pop()
        steps += 1
        if steps > STEPS or (part == ".." and not at):
            return True
        if part == "..":
            at.pop()
        elif part not in {"", "."}:
            at.append(part)
            target = links.get("/".join(at))
            if target is not None:
                hops += 1
                if target.startswith("/") or hops > HOPS:
                    return True
                at.pop()
                pending.extend(target.split("/")[::-1])
    return False


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
        SnapshotError: A folder cannot be read, or the index names a file outside.
    """
    records = repository.run("ls-files", "-z", "--stage").split(b"\0")[:-1]
    paths, submodules = set(), {}
    for record in records:
        described, _, name = record.partition(b"\t")
        path = os.fsdecode(name)
        if not {"", ".", ".."}.isdisjoint(path.split("/")):  # git writes no such index, and prints one that it reads
            raise SnapshotError(f"git's index names a path that leads outside: {shown(path)}.", "Who made this folder?")
        if described.startswith(b"160000"):
            submodules[path] = "it is a submodule"
        elif not is_junk(path):
            paths.add(path)
    # A folder that was replaced by a link is none of these; git counts what was below as deleted, too.
    above = {folder.as_posix() for path in paths for folder in PurePosixPath(path).parents}
    return _listing(
        repository.folder,
        lambda path, is_folder: path not in (above if is_folder else paths),
        submodules,
        expected=paths,
    )


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
    ignored = _Ignored(ForeignTree(root))

    def skip(path: str, is_folder: bool) -> bool:  # noqa: FBT001 - as a walk asks
        name = path.rpartition("/")[2]
        return is_junk(name) or (gitignore and (name in INSTALLED or ignored(path, is_folder)))

    return _listing(root, skip, {}, max_files=max_files)


def _listing(
    root: Path,
    skip: Callable[[str, bool], bool],
    left_out: Mapping[str, str],
    *,
    max_files: int | None = None,
    expected: Iterable[str] = (),
) -> Listing:
    """What is below ``root`` and not skipped; what cannot travel is left out with its reason.

    Args:
        root: The folder.
        skip: Asked about each path, and whether it is a folder.
        left_out: Path -> why it is left out already.
        max_files: Give up above that.
        expected: Files that are looked for by these names, where a folder lists them under others (macOS).

    Raises:
        SnapshotError: A folder cannot be read, or there are too many files.
    """
    reasons = dict(left_out)

    def too_deep(path: str, is_folder: bool) -> bool:  # noqa: FBT001 - as a walk asks
        if skip(path, is_folder):
            return True
        if path.count("/") < DEPTH:
            return False
        reasons[path] = "it is nested too deeply"
        return True

    tree, found = ForeignTree(root), []
    try:
        for each in tree.walk(
            skip=too_deep, max_depth=DEPTH, max_entries=sys.maxsize if max_files is None else ENTRIES * max_files
        ):
            found.append(each)
            if max_files is not None and len(found) > max_files:
                raise SnapshotError(f"{root} has more than {max_files:,} files.", "Raise TTA_MAX_SNAPSHOT_FILES.")
        found += _named(tree, set(expected).difference(each.path for each in found))
        links = {each.path: tree.link_target(each.path) for each in found if each.link}
    except OSError as error:
        hint = "Raise TTA_MAX_SNAPSHOT_FILES." if error.errno == errno.EMLINK else ""
        raise SnapshotError(f"{shown(str(error.filename))} cannot be read: {error.strerror}.", hint) from error
    return Listing(tuple(_described(found, links, reasons)), reasons)


def _named(tree: ForeignTree, paths: Iterable[str]) -> Iterator[Found]:
    for path in paths:
        status = tree.status(path) if path.count("/") < DEPTH else None
        if status is not None and not stat.S_ISDIR(status.st_mode):
            yield Found(path, status)


def _described(found: list[Found], links: Mapping[str, str], left_out: dict[str, str]) -> Iterator[Entry]:
    """What can travel, sorted; the rest goes to ``left_out``."""
    for each in sorted(found, key=lambda each: os.fsencode(each.path)):
        path = each.path
        if each.regular:
            yield Entry(path, each.status.st_size, bool(each.status.st_mode & stat.S_IXUSR))
        elif not each.link:
            left_out[path] = "it is neither a file nor a link"
        elif leads_out(links, path):
            left_out[path] = "it is a symbolic link that leads outside"
        else:
            yield Entry(path, target=links[path])


@dataclass
class _Ignored:
    """What the ``.gitignore`` files of a tree name."""

    tree: ForeignTree
    #: Folder -> its rules after those above it; each with the prefix of the paths it is about.
    rules: dict[str, tuple[tuple[str, GitIgnoreSpec], ...]] = field(default_factory=dict)

    def __call__(self, path: str, is_folder: bool) -> bool:  # noqa: FBT001 - as a walk asks
        """The deepest .gitignore that says anything about ``path`` decides, as in git."""
        above = path.rpartition("/")[0]
        name = f"{path}/" if is_folder else path
        for prefix, spec in reversed(self._of(above)):
            verdict = spec.check_file(name.removeprefix(prefix)).include
            if verdict is not None:
                return verdict
        return False

    def _of(self, folder: str) -> tuple[tuple[str, GitIgnoreSpec], ...]:
        if folder not in self.rules:
            inherited = self._of(folder.rpartition("/")[0]) if folder else ()
            self.rules[folder] = (*inherited, *self._own(f"{folder}/" if folder else ""))
        return self.rules[folder]

    def _own(self, prefix: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
        with suppress(OSError):
            content = self.tree.read_bytes(f"{prefix}.gitignore", max_bytes=GITIGNORE_BYTES)
            yield prefix, GitIgnoreSpec.from_lines(content.decode("utf-8", "surrogateescape").splitlines())
