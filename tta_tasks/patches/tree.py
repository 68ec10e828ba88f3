"""Patches between trees. Trees and patches may be anybody's; git works in an empty repository of our own."""

from __future__ import annotations

import base64
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tta_tasks.errors import PatchError, SnapshotError
from tta_tasks.foreign import ForeignTree
from tta_tasks.git import GitFailed, bare_environment, git
from tta_tasks.snapshot import files

#: Largest patch, and most bytes of all files it touches together.
MAX_PATCH_BYTES = 32 << 20
MAX_CONTENT_BYTES = 128 << 20
#: Most files of a tree that is compared.
MAX_FILES = 200_000

#: No attribute of a hostile tree changes bytes on their way in or out.
_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding -whitespace -crlf\n"
#: git's binary hunks: the kind, its size, and lines of a length and base 85.
_BINARY = re.compile(rb"^(literal|delta) (\d+)\n((?:[A-Za-z][^\n]+\n)*)", re.MULTILINE)
#: The only lines in git's summary of a patch that changes regular files.
_HARMLESS = re.compile(rb" (?:(?:create|delete) mode 100(?:644|755) |mode change 100\d+ => 100(?:644|755) |rewrite )")


@dataclass(frozen=True)
class File:
    """A regular file of a tree."""

    content: bytes
    executable: bool = False


# -- making -----------------------------------------------------------------------------------------------------------


def diff(before: Path, after: Path, *, only: Collection[str] | None = None) -> bytes:
    """The patch that turns ``before`` into ``after``; empty where nothing differs.

    Args:
        before: A tree.
        after: The same tree, changed. What tools leave behind in it (caches, bytecode) is no change.
        only: Files and folders to compare, relative to the trees; all without.

    Raises:
        PatchError: It would change a symbolic link, is too large, or a file cannot be read.
    """
    old, new = _listed(before, only), _listed(after, only)
    links = [path for path in {**old, **new} if _target(old.get(path)) != _target(new.get(path))]
    if links:
        raise PatchError(f"Symbolic links were changed: {files.some(links)}.", "A patch changes regular files only.")
    differing = {path for path in {**old, **new} if _differ(before, old.get(path), after, new.get(path))}
    _check_content(sum(tree[path].size for path in differing for tree in (old, new) if path in tree))
    return between(_contents(before, old, differing), _contents(after, new, differing))


def between(before: Mapping[str, File], after: Mapping[str, File]) -> bytes:
    """The patch that turns files into others, by their paths relative to a tree; empty where nothing differs.

    Raises:
        PatchError: It is too large, or a path leads outside.
    """
    changed = [path for path in sorted({**before, **after}) if before.get(path) != after.get(path)]
    if not changed:
        return b""
    for path in changed:
        _check_path(path)
    _check_content(sum(len(tree[path].content) for path in changed for tree in (before, after) if path in tree))
    with _scratch_repository("The changes cannot be made into a patch") as (folder, env):
        stream = b"".join([*_commit("before", before, changed), *_commit("after", after, changed)])
        git("fast-import", "--quiet", cwd=folder, env=env, error=PatchError, stdin=stream)
        patch = git(
            "-c", "core.quotePath=false", "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames",
            "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "before", "after",
            cwd=folder, env=env, error=PatchError,
        )  # fmt: skip
    _check_size(patch)
    return patch


def _listed(tree: Path, only: Collection[str] | None) -> dict[str, files.Entry]:
    try:
        listing = files.folder(tree, max_files=MAX_FILES, gitignore=False)
    except SnapshotError as error:
        raise PatchError(f"The tree cannot be compared. {error.message}", error.hint) from error
    chosen = {entry.path: entry for entry in listing.entries if _among(entry.path, only)}
    if odd := [path for path in listing.left_out if _among(path, only)]:
        raise PatchError(f"The tree holds what no patch can: {listing.left_out[odd[0]]} ({files.some(odd)}).")
    return chosen


def _among(path: str, only: Collection[str] | None) -> bool:
    return only is None or any(prefix == "." or PurePosixPath(path).is_relative_to(prefix) for prefix in only)


def _target(entry: files.Entry | None) -> str | None:
    return entry.target if entry is not None else None


def _differ(before: Path, old: files.Entry | None, after: Path, new: files.Entry | None) -> bool:
    if old is None or old != new:
        return True
    return old.target is None and _read(before, old) != _read(after, old)


def _contents(tree: Path, listed: Mapping[str, files.Entry], paths: Collection[str]) -> dict[str, File]:
    return {path: File(_read(tree, listed[path]), listed[path].executable) for path in paths if path in listed}


def _read(tree: Path, entry: files.Entry) -> bytes:
    try:
        return ForeignTree(tree).read_bytes(entry.path, max_bytes=entry.size)
    except OSError as error:
        raise PatchError(f"{files.shown(entry.path)} cannot be read: {error.strerror}.") from error


def _commit(branch: str, tree: Mapping[str, File], paths: Iterable[str]) -> Iterator[bytes]:
    """``paths`` of ``tree`` as git's fast-import takes them: no index, no attributes, bytes as they are."""
    yield b"commit refs/heads/%b\ncommitter x <x> 0 +0000\ndata 0\n" % branch.encode()
    for path in paths:
        if path in tree:
            content = tree[path].content
            quoted = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
            mode = 755 if tree[path].executable else 644
            yield b'M 100%d inline "%b"\ndata %d\n%b\n' % (mode, quoted, len(content), content)
    yield b"\n"


# -- applying ---------------------------------------------------------------------------------------------------------


def paths(patch: bytes) -> tuple[str, ...]:
    """The files a patch touches, relative to the tree's root.

    Raises:
        PatchError: It is no patch, is too large, or does more than create, change and delete regular files inside.
    """
    if not patch.strip():
        return ()
    _check_size(patch)
    _check_content(sum(_unpacked_size(*hunk) for hunk in _BINARY.findall(patch)))
    with _scratch_repository("This is no patch that git understands") as (folder, env):
        counts = git("apply", "--numstat", "-z", cwd=folder, env=env, error=PatchError, stdin=patch)
        summary = git("apply", "--summary", cwd=folder, env=env, error=PatchError, stdin=patch)
    for line in summary.splitlines():
        if not _HARMLESS.match(line):
            raise PatchError(
                f"The patch does more than create, change and delete files: {files.shown(os.fsdecode(line.strip()))}."
            )
    found = tuple(os.fsdecode(record.split(b"\t", 2)[2]) for record in counts.split(b"\0")[:-1])
    for path in found:
        _check_path(path)
    return tuple(dict.fromkeys(found))


def apply(patch: bytes, tree: Path, *, allowed: Callable[[str], bool] | None = None) -> tuple[str, ...]:
    """Apply a patch to a tree: all of it, or nothing.

    Args:
        patch: As :func:`diff` makes them.
        tree: What is changed. If it is a repository, its index stays as it is.
        allowed: Asked about every path before anything is touched.

    Returns:
        The files it touched.

    Raises:
        PatchError: It does not apply, names a path that is not allowed, leads outside or through a link, or the tree
            cannot be written.
    """
    touched, door = _allowed(patch, allowed), ForeignTree(tree)
    before = present(tree, touched)
    after = _applied(patch, touched, before)
    with _restored_on_error(door, before, touched):
        _write(door, after)
    return touched


def _allowed(patch: bytes, allowed: Callable[[str], bool] | None) -> tuple[str, ...]:
    touched = paths(patch)
    if forbidden := [path for path in touched if allowed is not None and not allowed(path)]:
        raise PatchError(f"The patch changes what it must not: {files.some(forbidden)}.")
    return touched


def _applied(patch: bytes, touched: Collection[str], before: Mapping[str, File]) -> dict[str, File | None]:
    """What a patch makes of the files it touches; ``None`` where they are gone."""
    if not touched:
        return {}
    with _scratch_repository("The patch does not apply") as (folder, env):
        # A tree of our own, with nothing in it but these files: git neither sees nor writes another.
        tree = ForeignTree(folder / "tree")
        tree.root.mkdir()
        for path in touched:
            if path in before:
                tree.write_bytes(path, before[path].content, executable=before[path].executable)
        env["GIT_WORK_TREE"] = str(tree.root)
        git("apply", "--whitespace=nowarn", cwd=tree.root, env=env, error=PatchError, stdin=patch)
        now = present(tree.root, touched)
    return {path: now.get(path) for path in touched}


def present(tree: Path, paths: Iterable[str]) -> dict[str, File]:
    """Those of the files that are there; folders are none.

    Raises:
        PatchError: There is a link or something else in place of one, or they are too large.
    """
    door, found, left = ForeignTree(tree), {}, MAX_CONTENT_BYTES
    for path in paths:
        if (status := door.status(path)) is None or stat.S_ISDIR(status.st_mode):
            _check_way(door, path)
            continue
        if stat.S_ISLNK(status.st_mode):
            raise PatchError(f"The patch writes through a symbolic link: {files.shown(path)}.")
        try:
            content = door.read_bytes(path, max_bytes=left)
        except OSError as error:
            raise PatchError(f"{files.shown(path)} cannot be changed: {error.strerror}.") from error
        found[path] = File(content, bool(status.st_mode & stat.S_IXUSR))
        left -= len(content)
    return found


def _check_way(tree: ForeignTree, path: str) -> None:
    """See that no folder on the way to ``path`` is a link."""
    for folder in PurePosixPath(path).parents:
        status = tree.status(folder) if folder.parts else None
        if status is not None and stat.S_ISLNK(status.st_mode):
            raise PatchError(f"The patch writes through a symbolic link: {files.shown(path)}.")


def _write(tree: ForeignTree, contents: Mapping[str, File | None]) -> None:
    """Remove what is to go, then write the rest: a file may take the place of a folder, and the other way round."""
    for path, file in contents.items():
        if file is None:
            tree.remove(path)
            tree.remove_if_empty(PurePosixPath(path).parent)
    for path, file in contents.items():
        if file is not None:
            tree.write_bytes(path, file.content, executable=file.executable)


def _check_path(path: str) -> None:
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or any(part.casefold() == ".git" for part in parts):
        raise PatchError(f"The patch names a path that leads outside, or into git's own files: {files.shown(path)}.")


def _check_size(patch: bytes) -> None:
    if len(patch) > MAX_PATCH_BYTES:
        raise PatchError(f"The patch has {len(patch):,} bytes; the limit is {MAX_PATCH_BYTES:,}.")


def _check_content(size: int) -> None:
    if size > MAX_CONTENT_BYTES:
        raise PatchError(f"The changed files have {size:,} bytes together; the limit is {MAX_CONTENT_BYTES:,}.")


def _unpacked_size(kind: bytes, size: bytes, lines: bytes) -> int:
    """What a binary hunk makes git allocate; a delta of a few bytes may copy its base any number of times."""
    if kind == b"literal":
        return int(size)
    try:
        packed = b"".join(base64.b85decode(line[1:]) for line in lines.split())
        sizes = zlib.decompressobj().decompress(packed, 20)
    except (ValueError, zlib.error) as error:
        raise PatchError(f"The patch holds a binary change that cannot be read: {error}.") from error
    # Two numbers of seven bits a byte, lowest first: size of the base, size of the result.
    numbers, shift = [0], 0
    for byte in sizes:
        numbers[-1] |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(0)
            shift = 0
    return int(size) + sum(numbers[:2])


@contextmanager
def _scratch_repository(purpose: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with an empty repository, and the environment for git in that; both are gone afterwards.

    ``purpose`` names what failed.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tta-patch-") as name:
            folder, repository = Path(name), Path(name, "git")
            env = bare_environment(repository)
            git("init", "--quiet", "--bare", "--template=", str(repository), cwd=folder, env=env, error=PatchError)
            (repository / "info").mkdir(exist_ok=True)
            (repository / "info" / "attributes").write_text(_ATTRIBUTES)
            yield folder, env
    except (GitFailed, OSError) as error:
        raise PatchError(f"{purpose}: {error}.") from error


@contextmanager
def _restored_on_error(tree: ForeignTree, before: Mapping[str, File], touched: Iterable[str]) -> Iterator[None]:
    """Put everything back, when a disk fills up meanwhile or the tree does not let us."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            for path in touched:
                if path not in before and tree.is_file(path):
                    tree.remove(path)
                tree.remove_if_empty(PurePosixPath(path).parent)
            _write(tree, before)
        if isinstance(error, OSError):
            raise PatchError(f"The patch cannot be written to {tree.root}: {error.strerror}.") from error
        raise
