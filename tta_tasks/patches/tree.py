"""Patches between trees. Trees and patches may be anybody's; git works in an empty repository of our own."""

from __future__ import annotations

import base64
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from tta_tasks.errors import PatchError, SnapshotError
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


# -- making -----------------------------------------------------------------------------------------------------------


def diff(before: Path, after: Path, *, only: Collection[str] | None = None) -> bytes:
    """The patch that turns ``before`` into ``after``; empty where nothing differs.

    Args:
        before: A tree.
        after: The same tree, changed. What tools leave behind in it (caches, bytecode) is no change.
        only: Files and folders to compare, relative to the trees; all without.

    Raises:
        PatchError: It would change a symbolic link, or is too large.
    """
    with _scratch_repository("The changes cannot be made into a patch") as env:
        old, new = _listed(before, only), _listed(after, only)
        changed = [path for path in sorted({**old, **new}) if not _same(before, old.get(path), after, new.get(path))]
        if not changed:
            return b""
        touched = [tree[path] for path in changed for tree in (old, new) if path in tree]
        if links := [entry.path for entry in touched if entry.target is not None]:
            raise PatchError(
                f"Symbolic links were changed: {files.some(links)}.", "A patch changes regular files only."
            )
        _check_content(sum(entry.size for entry in touched))
        stream = b"".join([*_commit("before", before, old, changed), *_commit("after", after, new, changed)])
        git("fast-import", "--quiet", cwd=before, env=env, error=PatchError, stdin=stream)
        patch = git(
            "-c", "core.quotePath=false", "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames",
            "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "before", "after",
            cwd=before, env=env, error=PatchError,
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


def _same(before: Path, old: files.Entry | None, after: Path, new: files.Entry | None) -> bool:
    if old is None or old != new:
        return False
    return old.target is not None or (before / old.path).read_bytes() == (after / old.path).read_bytes()


def _commit(branch: str, tree: Path, listed: Mapping[str, files.Entry], paths: list[str]) -> Iterator[bytes]:
    """``paths`` of ``tree`` as git's fast-import takes them: no index, no attributes, bytes as they are."""
    yield b"commit refs/heads/%b\ncommitter x <x> 0 +0000\ndata 0\n" % branch.encode()
    for path in paths:
        if path in listed:
            content = (tree / path).read_bytes()
            quoted = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
            mode = 755 if listed[path].executable else 644
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
    with _scratch_repository("This is no patch that git understands") as env:
        counts = git("apply", "--numstat", "-z", cwd=Path("/"), env=env, error=PatchError, stdin=patch)
        summary = git("apply", "--summary", cwd=Path("/"), env=env, error=PatchError, stdin=patch)
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
        PatchError: It does not apply, names a path that is not allowed, or leads outside.
    """
    touched = paths(patch)
    if forbidden := [path for path in touched if allowed is not None and not allowed(path)]:
        raise PatchError(f"The patch changes what it must not: {files.some(forbidden)}.")
    for path in touched:
        parts = PurePosixPath(path).parts
        if any(tree.joinpath(*parts[: depth + 1]).is_symlink() for depth in range(len(parts))):
            raise PatchError(f"The patch writes through a symbolic link: {files.shown(path)}.")
    if touched:
        with _scratch_repository(f"The patch does not apply to {tree}") as env, _restored_on_error(tree, touched):
            env["GIT_WORK_TREE"] = str(tree.absolute())
            git("apply", "--whitespace=nowarn", cwd=tree, env=env, error=PatchError, stdin=patch)
    return touched


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
def _scratch_repository(purpose: str) -> Iterator[dict[str, str]]:
    """The environment for git in an empty repository that is gone afterwards; ``purpose`` names what failed."""
    try:
        with tempfile.TemporaryDirectory(prefix="tta-patch-") as folder:
            env = bare_environment(Path(folder))
            git("init", "--quiet", "--bare", "--template=", folder, cwd=Path(folder), env=env, error=PatchError)
            Path(folder, "info").mkdir(exist_ok=True)
            Path(folder, "info", "attributes").write_text(_ATTRIBUTES)
            yield env
    except (GitFailed, OSError) as error:
        raise PatchError(f"{purpose}: {error}.") from error


@contextmanager
def _restored_on_error(tree: Path, touched: Collection[str]) -> Iterator[None]:
    """Put everything back; git checks all before it writes, but a disk can fill up meanwhile."""
    kept = {
        tree / path: ((tree / path).read_bytes(), (tree / path).stat().st_mode) if (tree / path).is_file() else None
        for path in touched
    }
    absent = {folder for path in kept for folder in path.parents if not folder.exists()}
    try:
        yield
    except BaseException:
        for path, was in kept.items():
            if was is None:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != was[0]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(was[0])
                path.chmod(was[1])
        for folder in sorted(absent, reverse=True):
            with suppress(OSError):  # it never came to be
                folder.rmdir()
        raise
