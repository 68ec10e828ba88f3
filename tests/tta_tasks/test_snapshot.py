"""Snapshots: what is in one, that it is the same everywhere, and that opening one can do no harm."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tta_tasks.errors import ArtifactMissing, SnapshotError
from tta_tasks.snapshot import Snapshot, archive, files, pack, take, unpack
from tta_tasks.testing import MemoryStore
from workers.component.checkouts import SnapshotCache

MAX_BYTES = 10 << 20
MAX_FILES = 1000


def _take(repository: Path) -> Snapshot:
    return take(repository, max_bytes=MAX_BYTES, max_files=MAX_FILES)


def _pack(tree: Path) -> Snapshot:
    return pack(tree, max_bytes=MAX_BYTES, max_files=MAX_FILES)


def _unpack(data: bytes, into: Path) -> int:
    return unpack(data, into, max_bytes=MAX_BYTES, max_files=MAX_FILES)


def _write(root: Path, **contents: str) -> None:
    """Write files; ``__`` in a name stands for ``/``."""
    for name, content in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *identity, *arguments],  # noqa: S607
        cwd=repository,
        check=True,
        capture_output=True,
    )
    return os.fsdecode(done.stdout).strip()


def _names(snapshot: Snapshot) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(snapshot.data)) as tar:
        return tar.getnames()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a module, a script, and a package's module; all committed."""
    root = tmp_path / "repository"
    _write(root, module="x = 1\n", bin__run="#!/bin/sh\n", src__p__m="y = 2\n")
    (root / "bin" / "run").chmod(0o700)
    _git(tmp_path, "init", "-q", str(root))
    _git(root, "add", ".")
    _git(root, "commit", "-q", "-m", "first")
    return root


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_tracked_files_as_they_are_now(repository: Path) -> None:
    """Of a git repository travel the tracked files with uncommitted changes; deleted and untracked ones do not."""
    clean = _take(repository)
    assert (clean.commit, clean.dirty) == (_git(repository, "rev-parse", "HEAD"), False)
    _write(repository, module="x = 3\n", untracked="no\n")
    (repository / "bin" / "run").unlink()
    changed = _take(repository)
    assert _names(changed) == ["module", "src/p/m"]
    with tarfile.open(fileobj=io.BytesIO(changed.data)) as tar:
        member = tar.extractfile("module")
        assert member is not None
        assert member.read() == b"x = 3\n"
    assert (changed.commit, changed.dirty) == (clean.commit, True)
    assert changed.digest != clean.digest


def test_added_but_uncommitted_files_travel(repository: Path) -> None:
    """`git add -N` is enough for a file to travel."""
    (repository / "new.py").write_text("z = 1\n")
    _git(repository, "add", "-N", "new.py")
    assert "new.py" in _names(_take(repository))


def test_untracked_python_is_warned_about(repository: Path) -> None:
    """Untracked modules are counted and named with the way to include them; ignored ones and other files are not."""
    assert _take(repository).warnings == ()
    for name in ("new.py", "src/p/other.py", "ignored.py", "notes.txt"):
        (repository / name).touch()
    (repository / ".git" / "info" / "exclude").write_text("ignored.py\n")
    (warning,) = _take(repository).warnings
    assert warning.startswith("2 Python files")
    assert "new.py, src/p/other.py" in warning
    assert "git add -N" in warning


def test_subfolder_is_taken_alone(repository: Path) -> None:
    """A folder inside a work tree is its own snapshot, with paths relative to it and the work tree's commit."""
    snapshot = _take(repository / "src")
    assert _names(snapshot) == ["p/m"]
    assert snapshot.commit == _git(repository, "rev-parse", "HEAD")
    _write(repository, module="changed elsewhere\n")
    assert not _take(repository / "src").dirty


def test_hooks_environment_does_not_misdirect(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from another repository's hook, the snapshot is still that of the repository named."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent/index")
    assert "module" in _names(_take(repository))


def test_submodule_is_left_out_with_a_warning(repository: Path, tmp_path: Path) -> None:
    """Submodules do not travel, and their owner is told."""
    shutil.copytree(repository, tmp_path / "other")
    _git(repository, "submodule", "add", "-q", str(tmp_path / "other"), "vendored")
    snapshot = _take(repository)
    assert not [name for name in _names(snapshot) if name.startswith("vendored")]
    assert snapshot.warnings == ("Left out, because it is a submodule: vendored.",)


def test_repository_without_tracked_files_is_a_folder(tmp_path: Path) -> None:
    """After a bare `git init` all files travel that are not ignored, with a warning, and there is no commit."""
    _write(tmp_path, module="x = 1\n", junk="")
    (tmp_path / ".gitignore").write_text("junk\n")
    _git(tmp_path, "init", "-q")
    snapshot = _take(tmp_path)
    assert _names(snapshot) == [".gitignore", "module"]
    assert (snapshot.commit, snapshot.dirty) == ("", False)
    assert "git tracks no file here" in snapshot.warnings[0]


def test_untracked_subfolder_differs_from_the_commit(repository: Path) -> None:
    """A folder of which git tracks nothing is taken whole, and counts as changed since the commit."""
    _write(repository, new__module="")
    snapshot = _take(repository / "new")
    assert _names(snapshot) == ["module"]
    assert (snapshot.commit, snapshot.dirty) == (_git(repository, "rev-parse", "HEAD"), True)


def test_folder_honours_gitignore(tmp_path: Path) -> None:
    """Of a plain folder travels what no .gitignore names, nested ones and exceptions included, and no junk."""
    _write(tmp_path, a="", b__log="", b__keep="", b__c__log="", build__out="", d__build__in="", venv="")
    (tmp_path / ".gitignore").write_text("log\n/build/\n")
    (tmp_path / "b" / ".gitignore").write_text("!/log\n")
    for junk in (".venv", "node_modules", "__pycache__", ".tta", "b/.pytest_cache"):
        _write(tmp_path / junk, file="")
    (tmp_path / ".coverage").touch()
    (tmp_path / ".coverage.host.1").touch()
    (tmp_path / ".coveragerc").touch()
    expected = [".coveragerc", ".gitignore", "a", "b/.gitignore", "b/keep", "b/log", "d/build/in", "venv"]
    assert _names(_take(tmp_path)) == expected


GITIGNORES = {
    "": "*.log\n!keep.log\n/top\nfolder/\n# c\n\\#hash\na/**/z\nspace\\ \nb?d\n[x].txt\n**/deep/*\n!**/deep/kept\n",
    "a/": "!b.log\n/only\n",
    "a/b/": "*\n!.gitignore\n!*.py\n",
}


def test_gitignore_as_git_reads_it(tmp_path: Path) -> None:
    """For patterns of every kind, in nested files, a plain folder gives exactly what git itself would not ignore."""
    names = "b.log keep.log top folder only z x.txt xx.txt #hash bad bd deep/any deep/kept m.py"
    for prefix in ("", "a/", "a/b/", "e/folder/", "c/"):
        for name in [*names.split(), "space "]:
            _write(tmp_path, **{prefix + name: ""})
    for prefix, patterns in GITIGNORES.items():
        (tmp_path / prefix / ".gitignore").write_text(patterns)
    ours = _names(_take(tmp_path))
    _git(tmp_path, "init", "-q")
    gits = _git(tmp_path, "ls-files", "-z", "--others", "--exclude-standard").rstrip("\0").split("\0")
    assert ours == sorted(gits)
    assert len(ours) > 20


def test_links_inside_are_kept_and_others_left_out(repository: Path) -> None:
    """Links that stay inside travel, dangling ones too; absolute, escaping, and circling ones do not, in any way."""
    links = {
        "inside": "src/p", "dangling": "nowhere", "src/up": "..",
        "absolute": "/etc/passwd", "escape": "../x", "by_name": f"../{repository.name}/module",
        "by_link": "src/up/..", "circle": "circle",
    }  # fmt: skip
    for name, target in links.items():
        (repository / name).symlink_to(target)
    _git(repository, "add", "-A")
    snapshot = _take(repository)
    assert _names(snapshot) == ["bin/run", "dangling", "inside", "module", "src/p/m", "src/up"]
    assert snapshot.warnings == (
        "Left out, because it is a symbolic link that leads outside: absolute, by_link, by_name and 2 more.",
    )


def test_folder_replaced_by_a_link_is_not_followed(repository: Path, tmp_path: Path) -> None:
    """Tracked files whose folder became a link count as deleted, as they do for git."""
    (repository / "src" / "p").rename(tmp_path / "p")
    (repository / "src" / "p").symlink_to(tmp_path / "p")
    assert _names(_take(repository)) == ["bin/run", "module"]


def test_special_files_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets and pipes are left out with a warning, and nothing waits for them."""
    _write(tmp_path, module="")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        snapshot = _take(tmp_path)
    assert _names(snapshot) == ["module"]
    assert snapshot.warnings == ("Left out, because it is neither a file nor a link: pipe, socket.",)


def test_link_over_thousands_of_components_is_given_up(tmp_path: Path) -> None:
    """Links that lead over each other's long ways are left out, however long a walk they ask for."""
    (tmp_path / "d").mkdir()
    for number in range(30):
        (tmp_path / f"l{number}").symlink_to("d/../" * 800 + f"l{number + 1}")
    (tmp_path / "l30").symlink_to("d")
    snapshot = _take(tmp_path)
    assert _names(snapshot) == ["l30"]
    assert snapshot.warnings == (
        "Left out, because it is a symbolic link that leads outside: l0, l1, l10 and 27 more.",
    )


def test_folders_without_bottom_are_left_out(tmp_path: Path, dig: Callable[[Path], None]) -> None:
    """What is nested deeper than any repository is named, and not looked into."""
    dig(tmp_path)
    snapshot = _pack(tmp_path)
    assert snapshot.files == 100
    assert len(snapshot.warnings) == 1
    assert snapshot.warnings[0].startswith("Left out, because it is nested too deeply: ")


@pytest.mark.parametrize("versioned", [False, True])
def test_names_of_any_bytes_survive(tmp_path: Path, *, versioned: bool) -> None:
    """Names that are no UTF-8, long, or hold control characters come through unchanged."""
    names = [b"caf\xe9.py", "ümlaut".encode(), b"new\nline", b"x" * 200, b'quo"te', b"sp ace", b"-dash"]
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        (source / os.fsdecode(name)).write_bytes(name)
    if versioned:
        _git(source, "init", "-q")
        _git(source, "add", ".")
    _unpack(_take(source).data, tmp_path / "copy")
    assert {os.fsencode(path.name): path.read_bytes() for path in (tmp_path / "copy").iterdir()} == {
        name: name for name in names
    }


# -- that it is the same everywhere -----------------------------------------------------------------------------------


def test_same_tree_same_digest(repository: Path, tmp_path: Path) -> None:
    """Where a tree lies, when it was written, and by which means it was found do not matter; its content does."""
    first = _take(repository)
    _unpack(first.data, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*"):
        os.utime(path, (0, 0))
    assert _pack(tmp_path / "elsewhere").digest == _take(tmp_path / "elsewhere").digest == first.digest
    (tmp_path / "elsewhere" / "module").chmod(0o755)
    assert _pack(tmp_path / "elsewhere").digest != first.digest


def test_pack_ignores_what_tests_leave_behind(repository: Path, tmp_path: Path) -> None:
    """Caches, bytecode and coverage data in a checkout do not change its digest; any other new file does."""
    snapshot = _take(repository)
    tree = tmp_path / "tree"
    _unpack(snapshot.data, tree)
    for junk in ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".git", ".tta"):
        _write(tree / "src" / junk, file="")
    (tree / ".coverage").touch()
    assert _pack(tree).digest == snapshot.digest
    (tree / "new").touch()
    assert _pack(tree).digest != snapshot.digest


def test_archive_is_a_plain_tar_without_traces_of_its_host(repository: Path) -> None:
    """Any tar can open a snapshot, and nothing in it tells who made it when; only "executable" is kept of modes."""
    with tarfile.open(fileobj=io.BytesIO(_take(repository).data), mode="r:gz") as tar:
        members = {member.name: member for member in tar}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, 0, "", "")}
    assert {name: member.mode for name, member in members.items()} == {
        "bin/run": 0o755, "module": 0o644, "src/p/m": 0o644,
    }  # fmt: skip


# -- faults -----------------------------------------------------------------------------------------------------------


def test_too_large_is_refused_before_reading(tmp_path: Path) -> None:
    """A tree above the limit names its largest files; they are not read (one here holds 1 TB of nothing)."""
    _write(tmp_path, small="x")
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SnapshotError, match=r"huge\.bin \(1,099,511,627,776 bytes\), small \(1 bytes\)") as caught:
        _take(tmp_path)
    assert "TTA_MAX_SNAPSHOT_BYTES" in caught.value.hint


def test_too_many_files_are_refused(tmp_path: Path, repository: Path) -> None:
    """More files than the limit are refused, tracked or not."""
    for root in (repository, tmp_path):
        with pytest.raises(SnapshotError, match="files"):
            take(root, max_bytes=MAX_BYTES, max_files=2)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda _path: None], ids=["empty", "file", "absent"])
def test_nothing_to_take(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """An empty folder, a file, and nothing at all are SnapshotErrors that name the place."""
    make(tmp_path / "place")
    with pytest.raises(SnapshotError, match="place"):
        _take(tmp_path / "place")


def test_broken_repository_is_not_taken_for_a_folder(repository: Path) -> None:
    """Where git fails in a work tree its own words are shown; we do not fall back to taking everything."""
    (repository / ".git" / "index").write_bytes(b"garbage")
    with pytest.raises(SnapshotError, match="git cannot read"):
        _take(repository)


def _become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("meddle", "message"),
    [
        (Path.unlink, "module cannot be read: No such file"),
        (lambda path: path.write_text("longer than before"), "module changed while it was read"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "module cannot be read: it is a symbolic link"),
        (_become_a_pipe, "module cannot be read: it is no regular file"),
    ],
    ids=["vanishes", "grows", "becomes a link", "becomes a pipe"],
)
def test_tree_that_changes_meanwhile(tmp_path: Path, meddle: Callable[[Path], object], message: str) -> None:
    """A file that vanishes, grows, or turns into a link after it was listed is a SnapshotError."""
    _write(tmp_path, module="x")
    listing = files.folder(tmp_path, max_files=10, gitignore=False)
    meddle(tmp_path / "module")
    with pytest.raises(SnapshotError, match=message):
        archive.write(tmp_path, listing)


# -- opening hostile ones ---------------------------------------------------------------------------------------------


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 1) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size if kind == tarfile.REGTYPE else 0
    return member


HOSTILE = {
    "absolute": [_member("/outside")],
    "parent": [_member("../outside")],
    "parent inside": [_member("a/../../outside")],
    "dot": [_member("./a")],
    "absolute link": [_member("a", tarfile.SYMTYPE, "/etc")],
    "escaping link": [_member("a", tarfile.SYMTYPE, "../outside")],
    "through a link": [_member("a", tarfile.SYMTYPE, "."), _member("a/b")],
    "link by link": [
        _member("deep/er/up", tarfile.SYMTYPE, "../.."),
        _member("out", tarfile.SYMTYPE, "deep/er/up/../outside"),
    ],
    "link over a link": [
        _member("out", tarfile.SYMTYPE, "deep/er/up/../outside"),
        _member("deep/er/up", tarfile.SYMTYPE, "../.."),
    ],
    "circling link": [_member("a", tarfile.SYMTYPE, "b"), _member("b", tarfile.SYMTYPE, "a")],
    "hard link": [_member("a"), _member("b", tarfile.LNKTYPE, "a")],
    "hard link out": [_member("b", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [_member("a", tarfile.CHRTYPE)],
    "pipe": [_member("a", tarfile.FIFOTYPE)],
    "folder": [_member("a", tarfile.DIRTYPE)],
    "sparse": [_member("a", tarfile.GNUTYPE_SPARSE)],
    "twice": [_member("a"), _member("a")],
    "file and link": [_member("a"), _member("a", tarfile.SYMTYPE, ".")],
    "file as folder": [_member("a"), _member("a/b")],
    "folder as file": [_member("a/b"), _member("a")],
    "too deep": [_member("a/" * 500 + "b")],
    "too many": [_member(str(number)) for number in range(MAX_FILES + 1)],
    "too large": [_member(str(number), size=MAX_BYTES // 2) for number in range(3)],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archive_leaves_nothing(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    """Whatever a snapshot never holds is refused; nothing is left in the folder, nor written beside it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.addfile(_member("innocent"), io.BytesIO(b"x"))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    into = tmp_path / "a" / "b" / "into"
    with pytest.raises(SnapshotError):
        _unpack(packed.getvalue(), into)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "b", into]


@pytest.mark.parametrize(
    "data",
    [b"", b"not an archive", gzip.compress(b""), gzip.compress(b"not a tar" * 100)],
    ids=["empty", "text", "empty gzip", "gzipped text"],
)
def test_garbage_is_no_snapshot(tmp_path: Path, data: bytes) -> None:
    """Bytes that are no archive are a SnapshotError, never an exception of some library."""
    with pytest.raises(SnapshotError, match="not a snapshot"):
        _unpack(data, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_damaged_snapshot_unpacks_whole_or_not_at_all(tmp_path: Path) -> None:
    """Cut short or with a changed byte anywhere, a snapshot raises SnapshotError or is still the same tree."""
    _write(tmp_path / "source", a="a" * 300, b="b" * 300)
    snapshot = _pack(tmp_path / "source")
    damaged = [snapshot.data[:length] for length in range(0, len(snapshot.data), 7)]
    damaged += [
        bytes([*snapshot.data[:at], snapshot.data[at] ^ 0x55, *snapshot.data[at + 1 :]])
        for at in range(0, len(snapshot.data), 7)
    ]
    for data in damaged:
        try:
            _unpack(data, tmp_path / "into")
        except SnapshotError:
            assert list((tmp_path / "into").iterdir()) == []
        else:
            assert _pack(tmp_path / "into").digest == snapshot.digest
            shutil.rmtree(tmp_path / "into")


def test_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    """A small archive of much more than the limit is given up at the limit, wherever the excess is hidden."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32  # a long name's header, never a file
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(header.tobuf())
        for _ in range(64):
            stream.write(bytes(1 << 20))
    with pytest.raises(SnapshotError, match="more than its limit"):
        _unpack(packed.getvalue(), tmp_path / "into")


def test_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    """Unpacking into a folder that holds something is refused and removes nothing."""
    _write(tmp_path / "into", precious="x")
    with pytest.raises(SnapshotError, match="not empty"):
        _unpack(_pack(tmp_path / "into").data, tmp_path / "into")
    assert (tmp_path / "into" / "precious").read_text() == "x"


# -- the cache on a worker host ---------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts fetches."""

    fetched = 0

    def get(self, digest: str) -> bytes:
        """Count, and fetch."""
        self.fetched += 1
        return super().get(digest)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def _snapshot(root: Path, store: MemoryStore, content: str) -> str:
    root.mkdir(exist_ok=True)
    _write(root, module=content, bin__run="#!/bin/sh\n")
    (root / "bin" / "run").chmod(0o755)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("bin")
    return store.put(_pack(root).data)


def test_checkout_is_a_copy_of_its_own(tmp_path: Path, store: CountingStore) -> None:
    """Each checkout is the whole tree; what is written to one reaches neither the cache nor another."""
    digest = _snapshot(tmp_path / "source", store, "x = 1\n")
    cache = SnapshotCache(tmp_path / "cache", store, 1 << 20)
    for name in ("one", "two"):
        cache.checkout(digest, tmp_path / name)
        assert _pack(tmp_path / name).digest == digest
        _write(tmp_path / name, module="overwritten")
        (tmp_path / name / "bin" / "run").unlink()
    assert store.fetched == 1


def test_concurrent_checkouts_fetch_once(tmp_path: Path, store: CountingStore) -> None:
    """Tasks that start at once on one host fetch and unpack the snapshot once."""
    digest = _snapshot(tmp_path / "source", store, "x = 1\n")

    def checkout(number: int) -> str:
        into = tmp_path / str(number)
        SnapshotCache(tmp_path / "cache", store, 1 << 20).checkout(digest, into)
        return _pack(into).digest

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(checkout, range(16))) == {digest}
    assert store.fetched == 1


def test_least_recently_used_goes_first(tmp_path: Path, store: CountingStore) -> None:
    """Above its bound the cache gives up the snapshot unused for longest, and fetches it again when asked."""
    source = tmp_path / "source"
    one, two, three = (_snapshot(source, store, str(number) * 1000) for number in range(3))
    cache = SnapshotCache(tmp_path / "cache", store, 2100)
    for place, digest in enumerate([one, two, one, three, one]):
        cache.checkout(digest, tmp_path / f"checkout{place}")
    assert store.fetched == 3
    cache.checkout(two, tmp_path / "again")
    assert store.fetched == 4
    assert sum(1 for path in (tmp_path / "cache").iterdir() if path.is_dir()) == 2


def test_cache_too_small_for_all_serves_all(tmp_path: Path, store: CountingStore) -> None:
    """Tasks on different snapshots that do not fit together evict each other's, and still each get theirs whole."""
    digests = [_snapshot(tmp_path / "source", store, str(number) * 1000) for number in range(3)]

    def checkout(number: int) -> bool:
        SnapshotCache(tmp_path / "cache", store, 1).checkout(digests[number % 3], tmp_path / str(number))
        return _pack(tmp_path / str(number)).digest == digests[number % 3]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(checkout, range(60)))


def test_what_was_just_fetched_is_not_evicted(tmp_path: Path, store: CountingStore) -> None:
    """Even if another one is used, by another process, between its fetching and its copying."""
    first, second = (_snapshot(tmp_path / "source", store, text * 1000) for text in "ab")
    cache = SnapshotCache(tmp_path / "cache", store, 1)
    cache.checkout(first, tmp_path / "one")
    os.utime(tmp_path / "cache" / first, (time.time() + 60,) * 2)
    cache.checkout(second, tmp_path / "two")
    assert _pack(tmp_path / "two").digest == second


def test_killed_process_leaves_no_lasting_garbage(tmp_path: Path, store: CountingStore) -> None:
    """What a process left half-unpacked is removed with the next snapshot, and never taken for one."""
    _write(tmp_path / "cache" / "new-0123" / "tree", half="")
    SnapshotCache(tmp_path / "cache", store, 1 << 20).checkout(_snapshot(tmp_path / "s", store, "x"), tmp_path / "out")
    assert not (tmp_path / "cache" / "new-0123").exists()


def test_place_that_cannot_be_written(tmp_path: Path, store: CountingStore) -> None:
    """A cache or checkout below a regular file is a SnapshotError that names the place, for unpacking as well."""
    digest = _snapshot(tmp_path / "source", store, "x")
    blocked = tmp_path / "source" / "module" / "sub"
    for root, into in ((blocked, tmp_path / "out"), (tmp_path / "cache", blocked)):
        with pytest.raises(SnapshotError, match="Not a directory"):
            SnapshotCache(root, store, 1 << 20).checkout(digest, into)
    with pytest.raises(SnapshotError, match="Not a directory"):
        _unpack(store.get(digest), blocked)


def test_refused_snapshot_is_not_kept(tmp_path: Path, store: CountingStore) -> None:
    """A snapshot that is missing or unsafe leaves neither a checkout nor an entry in the cache."""
    cache = SnapshotCache(tmp_path / "cache", store, 1 << 20, max_snapshot_bytes=10)
    with pytest.raises(ArtifactMissing):
        cache.checkout("0" * 64, tmp_path / "out")
    with pytest.raises(SnapshotError, match="limit"):
        cache.checkout(_snapshot(tmp_path / "source", store, "x" * 100), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
