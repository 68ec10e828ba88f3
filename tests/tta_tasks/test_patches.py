"""Patches: they carry every change of regular files, apply wholly or not at all, and never lead outside."""

from __future__ import annotations

import base64
import os
import resource
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tta_tasks import patches
from tta_tasks.errors import PatchError, UsageError
from tta_tasks.patches import tree as patch_trees
from tta_tasks.snapshot import pack


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607
    return os.fsdecode(done.stdout).strip()


def _digest(tree: Path) -> str:
    return pack(tree, max_bytes=1 << 30, max_files=1000).digest


def _state(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes, git's own included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A tree with text, a script, and binary data."""
    root = tmp_path / "before"
    (root / "src").mkdir(parents=True)
    (root / "src" / "m.py").write_text("".join(f"line {number}\n" for number in range(30)))
    (root / "src" / "gone.py").write_text("x = 1\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "data.bin").write_bytes(bytes(range(256)) * 8)
    return root


@pytest.fixture
def after(before: Path, tmp_path: Path) -> Path:
    """The same tree; a test may change it."""
    return Path(shutil.copytree(before, tmp_path / "after"))


# -- there and back ---------------------------------------------------------------------------------------------------


def _new_in_a_new_folder(tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "new.py").write_text("n = 1\n")


def _file_to_folder(tree: Path) -> None:
    (tree / "run").unlink()
    (tree / "run").mkdir()
    (tree / "run" / "x").write_text("x\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda tree: (tree / "src/m.py").write_text("line 0\nchanged\n"),
    "new in a new folder": _new_in_a_new_folder,
    "new and empty": lambda tree: (tree / "src/__init__.py").touch(),
    "deleted": lambda tree: (tree / "src/gone.py").unlink(),
    "moved": lambda tree: (tree / "src/m.py").rename(tree / "src/moved.py"),
    "mode": lambda tree: (tree / "run").chmod(0o755),
    "binary": lambda tree: (tree / "data.bin").write_bytes(bytes(range(255, -1, -1)) * 8),
    "a byte of binary": lambda tree: (tree / "data.bin").write_bytes(bytes(range(256)) * 8 + b"x"),
    "new binary": lambda tree: (tree / "new.bin").write_bytes(b"\0\1\2"),
    "no end of line": lambda tree: (tree / "src/m.py").write_text("no newline"),
    "CRLF": lambda tree: (tree / "src/m.py").write_bytes(b"line 0\r\nline 1\r\n"),
    "trailing blanks": lambda tree: (tree / "src/m.py").write_bytes(b"x  \t \n\n\n\n"),
    "not UTF-8": lambda tree: (tree / "src/m.py").write_bytes(b"caf\xe9\n"),
    "odd names": lambda tree: [
        (tree / os.fsdecode(name)).write_text("x\n")
        for name in (b"sp ace", b'quo"te', b"caf\xe9", b"back\\slash", b"-d")
    ],
    "file to folder": _file_to_folder,
    "lines like headers": lambda tree: (tree / "src/m.py").write_text(
        "-- a/x\n++ b/x\ndiff --git a/x b/x\nliteral 9\n"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_patch_carries_the_change(before: Path, after: Path, change: Callable[[Path], object]) -> None:
    """A patch turns the tree before into exactly the tree after, byte for byte and mode for mode."""
    change(after)
    patch = patches.diff(before, after)
    assert patches.apply(patch, before) == patches.paths(patch) != ()
    assert _digest(before) == _digest(after)


def test_attributes_in_the_tree_change_nothing(before: Path, after: Path) -> None:
    """A tree's own .gitattributes can neither hide a change nor alter bytes on their way."""
    for tree in (before, after):
        (tree / ".gitattributes").write_text("* text eol=crlf ident working-tree-encoding=UTF-16 -diff filter=x\n")
    (after / "src" / "m.py").write_bytes(b"$Id$\nunix\r\nmixed\n")
    patch = patches.diff(before, after)
    assert b"+unix\r\n" in patch
    patches.apply(patch, before)
    assert _digest(before) == _digest(after)


def test_hostile_repository_in_the_tree_is_not_used(before: Path, after: Path, tmp_path: Path) -> None:
    """A .git planted in a tree, with a program in its configuration, is neither run nor part of the patch."""
    for tree in (before, after):
        _git(tree, "init", "-q")
        for key in ("core.fsmonitor", "diff.external", "core.hooksPath", "filter.x.clean"):
            _git(tree, "config", key, f"touch {tmp_path}/pwned;")
    (after / "src" / "m.py").write_text("changed\n")
    patch = patches.diff(before, after)
    assert patches.paths(patch) == ("src/m.py",)
    patches.apply(patch, before)
    assert (before / "src" / "m.py").read_text() == "changed\n"
    assert not (tmp_path / "pwned").exists()


def test_nothing_changed_is_an_empty_patch(before: Path, after: Path) -> None:
    """Equal trees give an empty patch, whatever tools left behind; applying it does nothing."""
    (after / "__pycache__").mkdir()
    (after / "__pycache__" / "m.pyc").touch()
    assert patches.diff(before, after) == b""
    assert patches.paths(b"") == patches.apply(b"", before) == ()


def test_only_what_is_asked_for(before: Path, after: Path) -> None:
    """`only` takes folders and files by whole names; what else changed stays out."""
    for name in ("tests", "tests2", "src"):
        (after / name).mkdir(exist_ok=True)
        (after / name / "t.py").write_text("x = 1\n")
    assert patches.paths(patches.diff(before, after, only=["tests"])) == ("tests/t.py",)
    assert patches.paths(patches.diff(before, after, only=["src/t.py", "tests2/"])) == ("src/t.py", "tests2/t.py")
    assert len(patches.paths(patches.diff(before, after, only=["."]))) == 3


def test_patch_is_the_same_each_time(before: Path, after: Path) -> None:
    """The same change gives the same bytes, so the same artifact."""
    (after / "src" / "m.py").write_text("changed\n")
    assert patches.diff(before, after) == patches.diff(before, after)


def test_changed_link_is_refused(before: Path, after: Path) -> None:
    """New links, inside or leading out, are no patch's business, and are named."""
    (after / "link").symlink_to("src")
    with pytest.raises(PatchError, match="Symbolic links were changed: link"):
        patches.diff(before, after)
    (after / "link").unlink()
    (after / "link").symlink_to("/etc")
    with pytest.raises(PatchError, match="leads outside"):
        patches.diff(before, after)
    assert patches.diff(before, after, only=["src"]) == b""


def test_limits(before: Path, after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes above the limit are refused when made, and patches above it before git sees them."""
    (after / "src" / "m.py").write_text("changed\n")
    (after / "new.bin").write_bytes(bytes(5000))
    patch = patches.diff(before, after)
    monkeypatch.setattr(patch_trees, "MAX_CONTENT_BYTES", 4000)
    for refused in (lambda: patches.diff(before, after), lambda: patches.paths(patch)):
        with pytest.raises(PatchError, match=r"the limit is 4,000"):
            refused()
    monkeypatch.setattr(patch_trees, "MAX_PATCH_BYTES", 100)
    with pytest.raises(PatchError, match=r"the limit is 100"):
        patches.paths(patch)


def test_delta_that_grows_is_stopped(before: Path) -> None:
    """A binary delta says how large its result is; beyond the limit git never sees it."""
    base, result = b"\x80\x10", b"\x80\x80\x80\x80\x40"  # 2 KiB become 16 GiB
    delta = base + result + b"\xb0\x00\x08" * 100
    packed = zlib.compress(delta)
    line = bytes([ord("a") + len(packed) - 27]) + base64.b85encode(packed, pad=True)
    patch = b"diff --git a/data.bin b/data.bin\nindex %b..%b 100644\nGIT binary patch\ndelta %d\n%b\n\n" % (
        b"1" * 40, b"2" * 40, len(delta), line,
    )  # fmt: skip
    with pytest.raises(PatchError, match=r"17,179,\d+,\d+ bytes"):
        patches.apply(patch, before)


# -- what must not be applied -----------------------------------------------------------------------------------------


def _new(path: str, mode: str = "100644") -> bytes:
    header = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return f"{header}@@ -0,0 +1 @@\n+x\n".encode()


INNOCENT = _new("innocent.py")
FORBIDDEN = {
    "parent": _new("../outside"),
    "parent inside": _new("src/../../outside"),
    "absolute": _new("/outside"),
    "git": _new(".git/hooks/pre-commit"),
    "GIT": _new("src/.GIT/config"),
    "through a link": _new("link/outside"),
    "onto a link": b"diff --git a/link b/link\n--- a/link\n+++ b/link\n@@ -1 +1 @@\n-x\n+y\n",
    "new link": _new("evil", "120000"),
    "submodule": _new("evil", "160000"),
    "rename": b"diff --git a/run b/ran\nsimilarity index 100%\nrename from run\nrename to ran\n",
    "copy": b"diff --git a/run b/ran\nsimilarity index 100%\ncopy from run\ncopy to ran\n",
    "link to file": b"diff --git a/run b/run\nold mode 100644\nnew mode 120000\n",
    "exists already": _new("run"),
    "wrong context": b"diff --git a/run b/run\n--- a/run\n+++ b/run\n@@ -1 +1 @@\n-other\n+y\n",
    "garbage": b"this is no patch\n",
    "cut short": _new("cut")[:-3],
}


@pytest.mark.parametrize("patch", FORBIDDEN.values(), ids=FORBIDDEN.keys())
@pytest.mark.parametrize("first", [b"", INNOCENT], ids=["alone", "after an innocent one"])
def test_forbidden_patch_touches_nothing(before: Path, tmp_path: Path, patch: bytes, first: bytes) -> None:
    """A patch that leads outside, or does not apply, raises PatchError and touches nothing, inside or outside."""
    (tmp_path / "outside").mkdir()
    (before / "link").symlink_to("../outside")
    state = _state(tmp_path)
    if first and patch == FORBIDDEN["garbage"]:
        patch = b"diff --git a/x b/x\n--- a/x\n"
    with pytest.raises(PatchError):
        patches.apply(first + patch, before)
    assert _state(tmp_path) == state


ONTO = b"diff --git a/odd b/odd\n--- a/odd\n+++ b/odd\n@@ -1 +1 @@\n-x\n+y\n"


def _lengthen(path: Path, size: int) -> int:
    with path.open("wb") as file:
        return file.truncate(size)


ODD: dict[str, Callable[[Path, Path], object]] = {
    "pipe": lambda odd, _canary: os.mkfifo(odd),
    "link": lambda odd, canary: odd.symlink_to(canary),
    "endless": lambda odd, _canary: odd.symlink_to("/dev/zero"),
    "circle": lambda odd, _canary: odd.symlink_to(odd.name),
    "folder": lambda odd, _canary: (odd / "inner").mkdir(parents=True),
    "sparse": lambda odd, _canary: _lengthen(odd, 1 << 40),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_patch_onto_what_is_no_file(before: Path, tmp_path: Path, make: Callable[[Path, Path], object]) -> None:
    """It is refused without waiting and without reading a terabyte, and nothing is touched."""
    canary = tmp_path / "canary"
    canary.write_text("x\n")
    make(before / "odd", canary)
    with pytest.raises(PatchError):
        patches.apply(INNOCENT + ONTO, before)
    assert canary.read_text() == "x\n"
    assert not (before / "innocent.py").exists()


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_tree_with_what_is_no_file(
    before: Path, after: Path, tmp_path: Path, make: Callable[[Path, Path], object]
) -> None:
    """No patch is made of it, and where it is not asked for it is of no matter."""
    make(after / "odd", tmp_path / "canary")
    (after / "src" / "m.py").write_text("changed\n")
    if not (after / "odd" / "inner").exists():
        with pytest.raises(PatchError):
            patches.diff(before, after)
    assert patches.paths(patches.diff(before, after, only=["src"])) == ("src/m.py",)


def test_patch_of_files_without_a_tree() -> None:
    """Contents make a patch as trees do, and no name leads outside."""
    name = os.fsdecode(b"new\xff/n.py")
    old = {"a.py": patches.File(b"1\n"), "gone": patches.File(b"x")}
    new = {"a.py": patches.File(b"2\n", executable=True), name: patches.File(b"\0")}
    patch = patches.between(old, new)
    assert sorted(patches.paths(patch)) == sorted(["a.py", "gone", name])
    assert patches.between(new, new) == b""
    with pytest.raises(PatchError, match="does more than"):  # git would tell of it on two lines
        patches.paths(patches.between({}, {"a\nb": patches.File(b"")}))
    for path in ("../a", "/a", ".git/config", "a/./b"):
        with pytest.raises(PatchError, match="leads outside"):
            patches.between({}, {path: patches.File(b"")})


def test_only_allowed_paths(before: Path, after: Path) -> None:
    """Each path, that of a deleted file too, must be allowed before any is touched."""
    (after / "src" / "gone.py").unlink()
    (after / "tests.py").write_text("x = 1\n")
    state = _state(before)
    with pytest.raises(PatchError, match=r"must not: src/gone\.py\."):
        patches.apply(patches.diff(before, after), before, allowed=lambda path: path.startswith("tests"))
    assert _state(before) == state


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """What this process and its children may write; git dies of it as of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_interrupted_application_is_undone(before: Path, after: Path) -> None:
    """When git dies half way through writing, all is as it was: changed, deleted and new files, and folders."""
    (after / "data.bin").unlink()
    (after / "new").mkdir()
    (after / "new" / "a.py").write_text("x = 1\n")
    (after / "src" / "m.py").write_text("".join(f"changed {number}\n" for number in range(10_000)))
    patch = patches.diff(before, after)
    digest = _digest(before)
    with _largest_file(50_000), pytest.raises(PatchError):
        patches.apply(patch, before)
    assert _digest(before) == digest
    assert not (before / "new").exists()
    patches.apply(patch, before)
    assert _digest(before) == _digest(after)


# -- into the user's repository ---------------------------------------------------------------------------------------


@pytest.fixture
def repository(before: Path) -> Path:
    """The tree before, committed; with something staged, something changed, and hooks that would tell."""
    _git(before, "init", "-q", "-b", "main")
    _git(before, "config", "user.name", "Ada")
    _git(before, "config", "user.email", "ada@example.org")
    _git(before, "config", "commit.gpgSign", "true")
    _git(before, "add", ".")
    _git(before, "commit", "-q", "--no-gpg-sign", "-m", "first")
    (before / "staged").write_text("staged\n")
    _git(before, "add", "staged")
    (before / "run").write_text("#!/bin/sh\nchanged\n")
    for hook in ("pre-commit", "post-commit", "commit-msg", "reference-transaction"):
        (before / ".git" / "hooks" / hook).write_text("#!/bin/sh\ntouch hook-ran\nexit 1\n")
        (before / ".git" / "hooks" / hook).chmod(0o755)
    return before


def _two_patches(after: Path, tmp_path: Path) -> list[tuple[bytes, str]]:
    """Tests, then a refactoring on top of them; the second touches what the first made."""
    start = Path(shutil.copytree(after, tmp_path / "start"))
    (after / "tests").mkdir()
    (after / "tests" / "test_m.py").write_text("def test(): assert 1\n")
    tests = patches.diff(start, after)
    middle = Path(shutil.copytree(after, tmp_path / "middle"))
    (after / "tests" / "test_m.py").write_text("def test() -> None: assert 1\n")
    (after / "src" / "gone.py").unlink()
    return [(tests, "Test m\n\nDetails."), (patches.diff(middle, after), "Refactor m")]


def test_branch_beside_everything_checked_out(repository: Path, after: Path, tmp_path: Path) -> None:
    """A branch gets one commit a patch, by the user; files, index and HEAD stay, and no hook runs."""
    found = _two_patches(after, tmp_path)
    kept = [
        _git(repository, *command) for command in (["status", "--porcelain"], ["rev-parse", "HEAD"], ["stash", "list"])
    ]
    files = {name: data for name, data in _state(repository).items() if not name.startswith(".git/")}
    index = (repository / ".git" / "index").read_bytes()
    base = _git(repository, "rev-parse", "HEAD")
    commit = patches.commit_branch(repository, base, "tta/results", found)
    assert (repository / ".git" / "index").read_bytes() == index
    assert {name: data for name, data in _state(repository).items() if not name.startswith(".git/")} == files
    assert kept == [
        _git(repository, *command) for command in (["status", "--porcelain"], ["rev-parse", "HEAD"], ["stash", "list"])
    ]
    assert _git(repository, "rev-parse", "tta/results") == commit
    log = _git(repository, "log", "--format=%an <%ae> %s", f"{base}..tta/results")
    assert log.splitlines() == ["Ada <ada@example.org> Refactor m", "Ada <ada@example.org> Test m"]
    assert _git(repository, "show", "tta/results:tests/test_m.py") == "def test() -> None: assert 1"
    assert not list(tmp_path.rglob("hook-ran"))


def test_branch_from_a_subfolder(repository: Path, tmp_path: Path) -> None:
    """When a folder of a work tree was the snapshot, its patches land in that folder."""
    changed = Path(shutil.copytree(repository / "src", tmp_path / "changed"))
    (changed / "m.py").write_text("changed\n")
    patch = patches.diff(repository / "src", changed)
    patches.commit_branch(repository / "src", "HEAD", "results", [(patch, "Change m")])
    assert _git(repository, "diff", "--name-only", "HEAD", "results") == "src/m.py"
    assert patches.apply_to_worktree(repository / "src", [patch]) == ("m.py",)
    assert (repository / "src" / "m.py").read_text() == "changed\n"


def test_branch_without_an_identity(repository: Path, after: Path, tmp_path: Path) -> None:
    """Where nobody has told git who they are, a neutral name commits."""
    for key in ("user.name", "user.email"):
        _git(repository, "config", "--unset", key)
    patches.commit_branch(repository, "HEAD", "results", _two_patches(after, tmp_path))
    assert _git(repository, "log", "-1", "--format=%an <%ae> %cn", "results") == "tta <tta@localhost> tta"


def test_existing_branch_is_kept_unless_forced(repository: Path, after: Path, tmp_path: Path) -> None:
    """A branch of that name is refused, replaced only by force, and never while it is checked out."""
    found = _two_patches(after, tmp_path)
    first = patches.commit_branch(repository, "HEAD", "results", found[:1])
    with pytest.raises(PatchError, match="exists already"):
        patches.commit_branch(repository, "HEAD", "results", found)
    assert _git(repository, "rev-parse", "results") == first
    assert patches.commit_branch(repository, "HEAD", "results", found, force=True) != first
    with pytest.raises(PatchError, match="checked out"):
        patches.commit_branch(repository, "HEAD", "main", found, force=True)


def test_patch_on_uncommitted_changes_has_no_branch(repository: Path, tmp_path: Path) -> None:
    """A patch that builds on uncommitted changes does not fit the commit: that is said, and no branch left."""
    changed = Path(shutil.copytree(repository, tmp_path / "changed"))
    (changed / "run").write_text("#!/bin/sh\nchanged again\n")
    patch = patches.diff(repository, changed)
    with pytest.raises(PatchError, match=r"does not apply to commit .*uncommitted changes"):
        patches.commit_branch(repository, "HEAD", "results", [(patch, "Change run")])
    assert _git(repository, "branch", "--list", "results") == ""
    patches.apply_to_worktree(repository, [patch])
    assert (repository / "run").read_text() == "#!/bin/sh\nchanged again\n"


def test_branch_faults(repository: Path, after: Path, tmp_path: Path) -> None:
    """A commit that is gone, a name git takes for another branch's folder: PatchErrors in plain words."""
    found = _two_patches(after, tmp_path)
    with pytest.raises(PatchError, match="no commit 'abc123'"):
        patches.commit_branch(repository, "abc123", "results", found)
    with pytest.raises(PatchError, match="main/results cannot be made"):
        patches.commit_branch(repository, "HEAD", "main/results", found)
    with pytest.raises(PatchError, match="nothing to commit"):
        patches.commit_branch(repository, "", "results", [(b"", "Nothing")])


@pytest.mark.parametrize("branch", ["", "-d", "a..b", "@{-1}", "HEAD", "a b", "x.lock"])
def test_branch_names_are_checked_beforehand(repository: Path, branch: str) -> None:
    """What is no branch's name is a UsageError before any work is done."""
    with pytest.raises(UsageError, match="no name for a branch"):
        patches.check_branch(repository, branch)


def test_branch_can_be_checked_beforehand(repository: Path, tmp_path: Path) -> None:
    """A free name passes; a taken one, a plain folder and a missing folder are UsageErrors."""
    patches.check_branch(repository, "results")
    with pytest.raises(UsageError, match="exists already"):
        patches.check_branch(repository, "main")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="not in a git work tree"):
            patches.check_branch(folder, "results")


def test_worktree_gets_all_patches_or_none(repository: Path, after: Path, tmp_path: Path) -> None:
    """Patches that build on each other apply together; if the last does not apply, none does; the index stays."""
    found = [patch for patch, _ in _two_patches(after, tmp_path)]
    state = _state(repository)
    with pytest.raises(PatchError, match="left as it is"):
        patches.apply_to_worktree(repository, [*found, FORBIDDEN["wrong context"]])
    assert _state(repository) == state
    assert set(patches.apply_to_worktree(repository, found)) == {"src/gone.py", "tests/test_m.py"}
    assert (repository / "tests" / "test_m.py").read_text() == "def test() -> None: assert 1\n"
    assert _git(repository, "diff", "--cached", "--name-only") == "staged"
