"""git in a folder that somebody else made: nothing in it is run, fetched or written elsewhere, and it still works.

Each attack leaves a canary file if its program is started. The threat model names these tests.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tta_tasks import patches
from tta_tasks.errors import PatchError, SnapshotError, TtaError, UsageError
from tta_tasks.git import GitFailed, opened, tracked_below
from tta_tasks.snapshot import Snapshot, take

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a home of their own, whose own configuration git reads."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    return folder


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return os.fsdecode(done.stdout).strip()


def _take(folder: Path) -> Snapshot:
    return take(folder, max_bytes=10 << 20, max_files=1000)


def _repository(folder: Path, *options: str) -> Path:
    """A committed repository of three files."""
    (folder / "src").mkdir(parents=True)
    (folder / "module.py").write_text("x = 1\n")
    (folder / "data.bin").write_text("data\n")
    (folder / "src" / "m.py").write_text("y = 1\n")
    _git(folder, "init", "-q", "-b", "main", *options)
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return _repository(tmp_path / "repository")


#: What a run leaves: ``module.py`` changed, and a new test.
PATCH = b"""\
diff --git a/module.py b/module.py
--- a/module.py
+++ b/module.py
@@ -1 +1 @@
-x = 1
+x = 2
diff --git a/tests/test_m.py b/tests/test_m.py
new file mode 100644
--- /dev/null
+++ b/tests/test_m.py
@@ -0,0 +1 @@
+def test(): assert 1
"""


def _everything(folder: Path) -> None:
    """All that the product asks git in a user's repository."""
    taken = _take(folder)
    _take(folder / "src")
    tracked_below(folder / ".tta", error=TtaError)
    patches.check_branch(folder, "results")
    patches.commit_branch(folder, taken.commit, "results", [(PATCH, "Change")])
    patches.commit_branch(folder, taken.commit, "results", [(PATCH, "Change again")], force=True)
    patches.apply_to_worktree(folder, [PATCH])


# -- programs that a repository names ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canary:
    """A program that tells that it was run, and the file in which it does."""

    program: Path
    file: Path

    def __str__(self) -> str:
        return str(self.program)


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    found = Canary(tmp_path / "canary.sh", tmp_path / "canary")
    found.program.write_text(f'#!/bin/sh\necho "$0 $*" >> {found.file}\ncat\n')
    found.program.chmod(0o755)
    return found


def _configured(*settings: str, attributes: str = "") -> Callable[[Path, Canary], None]:
    """``NAME=VALUE`` in the repository's configuration, where ``CANARY`` stands for the program."""

    def attack(folder: Path, canary: Canary) -> None:
        for setting in settings:
            name, _, value = setting.partition("=")
            _git(folder, "config", name, value.replace("CANARY", str(canary)))
        (folder / ".git" / "info").mkdir(exist_ok=True)
        (folder / ".git" / "info" / "attributes").write_text(attributes)
        (folder / ".gitattributes").write_text(attributes)

    return attack


def _hooks(folder: Path, canary: Canary) -> None:
    """Each hook that git knows, where git looks for hooks by itself."""
    hooks = folder / ".git" / "hooks"
    shutil.rmtree(hooks, ignore_errors=True)
    hooks.mkdir()
    for name in (
        "applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "prepare-commit-msg", "commit-msg",
        "post-commit", "post-checkout", "post-index-change", "reference-transaction", "post-rewrite", "update",
        "fsmonitor-watchman", "pre-auto-gc", "post-update", "pre-merge-commit", "post-merge",
    ):  # fmt: skip
        (hooks / name).symlink_to(canary.program)


def _hooks_elsewhere(folder: Path, canary: Canary) -> None:
    """The same in another folder, which the configuration names."""
    _hooks(folder, canary)
    (folder / ".git" / "hooks").rename(folder / "programs")
    _git(folder, "config", "core.hooksPath", str(folder / "programs"))


def _elsewhere(kind: str) -> Callable[[Path, Canary], None]:
    """A configuration that lies elsewhere, and is included: at once, for this folder, or as the work tree's own."""

    def attack(folder: Path, canary: Canary) -> None:
        other = folder / "module.config"
        for setting in FILTER[:2]:
            name, _, value = setting.partition("=")
            _git(folder, "config", "--file", str(other), name, value.replace("CANARY", str(canary)))
        (folder / ".gitattributes").write_text("* filter=evil\n")
        if kind == "config.worktree":
            _git(folder, "config", "extensions.worktreeConfig", "true")
            other.rename(folder / ".git" / "config.worktree")
        else:
            _git(folder, "config", kind, str(other))

    return attack


def _monitored_submodule(folder: Path, canary: Canary) -> None:
    """A submodule whose own configuration names programs."""
    inner = _repository(folder.parent / "inner")
    _git(folder, "submodule", "--quiet", "add", str(inner), "vendored")
    _git(folder, "commit", "-q", "-m", "vendored")
    for name in ("core.fsmonitor", "filter.evil.clean"):
        _git(folder / "vendored", "config", name, str(canary))
    (folder / "vendored" / "module.py").write_text("touched\n")
    (folder / "vendored" / ".gitattributes").write_text("* filter=evil\n")


def _bare_inside(folder: Path, canary: Canary) -> None:
    """A folder in the work tree that git would take for a bare repository, with a configuration of its own."""
    bare = folder / "src"
    shutil.copytree(folder / ".git", bare, dirs_exist_ok=True)
    for name, value in (("core.fsmonitor", str(canary)), ("core.worktree", str(bare)), ("core.bare", "false")):
        _git(folder, "config", "--file", str(bare / "config"), name, value)


FILTER = ("filter.evil.clean=CANARY", "filter.evil.smudge=CANARY", "filter.evil.required=true")

ATTACKS: dict[str, Callable[[Path, Canary], None]] = {
    "filter": _configured(*FILTER, attributes="* filter=evil\n"),
    "filter process": _configured("filter.evil.process=CANARY", attributes="* filter=evil\n"),
    "fsmonitor": _configured("core.fsmonitor=CANARY"),
    "fsmonitor of old": _configured("core.fsmonitor=CANARY", "core.fsmonitorHookVersion=1"),
    "hooks": _hooks,
    "hooks elsewhere": _hooks_elsewhere,
    "external diff": _configured("diff.external=CANARY", "diff.evil.command=CANARY", attributes="* diff=evil\n"),
    "textconv": _configured("diff.evil.textconv=CANARY", attributes="* diff=evil\n"),
    "merge driver": _configured("merge.evil.driver=CANARY %A", attributes="* merge=evil\n"),
    "alias": _configured(*(f"alias.{name}=!CANARY" for name in ("status", "ls-files", "rev-parse", "apply"))),
    "sshCommand": _configured("core.sshCommand=CANARY", "core.gitProxy=CANARY", "remote.origin.url=host:x"),
    "credentials": _configured("credential.helper=CANARY", "core.askPass=CANARY"),
    "signing": _configured("commit.gpgSign=true", "gpg.program=CANARY", "gpg.format=openpgp"),
    "signing by ssh": _configured(
        "commit.gpgSign=true", "gpg.format=ssh", "gpg.ssh.program=CANARY", "user.signingKey=x"
    ),
    "pager": _configured("core.pager=CANARY", "pager.status=CANARY", "core.editor=CANARY", "sequence.editor=CANARY"),
    "alternates": _configured("core.alternateRefsCommand=CANARY", "uploadpack.packObjectsHook=CANARY"),
    "attributes elsewhere": _configured(
        *FILTER, "core.attributesFile=.git/info/attributes", attributes="* filter=evil"
    ),
    "include": _elsewhere("include.path"),
    "include for a folder": _elsewhere("includeIf.gitdir:/.path"),
    "configuration of the work tree": _elsewhere("config.worktree"),
    "submodule": _monitored_submodule,
    "bare repository inside": _bare_inside,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_repository_names_is_run(repository: Path, canary: Canary, attack: str) -> None:
    """Filters, hooks, monitors, drivers, aliases, transports, signers, pagers: none of them is started, by anything."""
    ATTACKS[attack](repository, canary)
    for name in ("module.py", "data.bin"):
        os.utime(repository / name, (0, 0))  # git must look into them
    _everything(repository)
    assert not canary.file.exists(), canary.file.read_text()


@pytest.mark.parametrize("attack", ["filter", "fsmonitor", "hooks", "include", "configuration of the work tree"])
def test_nothing_is_run_in_a_linked_work_tree(repository: Path, canary: Canary, attack: str) -> None:
    """A linked work tree has the configuration, and the hooks, of the repository that it belongs to."""
    tree = repository.parent / "tree"
    _git(repository, "worktree", "add", "-q", "-b", "side", str(tree))
    ATTACKS[attack](repository, canary)
    if attack == "configuration of the work tree":
        shutil.copy(repository / ".git" / "config.worktree", repository / ".git" / "worktrees" / "tree")
    shutil.copytree(
        repository / ".git" / "info", repository / ".git" / "worktrees" / "tree" / "info", dirs_exist_ok=True
    )
    (tree / ".gitattributes").write_text("* filter=evil\n")
    os.utime(tree / "module.py", (0, 0))
    canary.file.unlink(missing_ok=True)  # git itself has just made the work tree
    _everything(tree)
    assert not canary.file.exists(), canary.file.read_text()


def test_the_users_own_programs_are_not_run_either(repository: Path, canary: Canary, home: Path) -> None:
    """A repository's attributes choose among the filters that the user has (Git LFS): none of them is started."""
    for name in ("filter.lfs.clean", "filter.lfs.process", "diff.external", "core.fsmonitor", "alias.status"):
        _git(home, "config", "--global", name, str(canary))
    _git(home, "config", "--global", "commit.gpgSign", "true")
    _git(home, "config", "--global", "gpg.program", str(canary))
    (repository / ".gitattributes").write_text("* filter=lfs diff=lfs merge=lfs -text\n")
    os.utime(repository / "module.py", (0, 0))
    _everything(repository)
    assert not canary.file.exists(), canary.file.read_text()


@pytest.mark.parametrize("lacking", ["HEAD", "HEAD^{tree}", "HEAD:module.py"])
def test_missing_objects_are_not_fetched(repository: Path, canary: Canary, lacking: str) -> None:
    """Of a repository that lacks what it promised, git says so: no remote is asked, by no program and no address."""
    shutil.rmtree(repository / ".git" / "hooks", ignore_errors=True)
    identifier = _git(repository, "rev-parse", lacking)
    (repository / ".git" / "objects" / identifier[:2] / identifier[2:]).unlink()
    with socket.create_server(("127.0.0.1", 0)) as server, _asked(server) as asked:
        for name, value in {
            "core.repositoryFormatVersion": "1",
            "extensions.partialClone": "origin",
            "remote.origin.promisor": "true",
            "remote.origin.url": f"ext::{canary} {server.getsockname()[1]}",
            "remote.origin.uploadpack": str(canary),
            "remote.other.promisor": "true",
            "remote.other.url": f"git://127.0.0.1:{server.getsockname()[1]}/x",
            "remote.third.promisor": "true",
            "remote.third.url": str(repository.parent / "third"),
            "remote.third.uploadpack": str(canary),
            "protocol.allow": "always",
        }.items():
            _git(repository, "config", name, value)
        shutil.copytree(repository / ".git", repository.parent / "third" / ".git")
        os.utime(repository / "module.py", (0, 0))
        for step in (
            lambda: _take(repository),
            lambda: patches.commit_branch(repository, "HEAD", "results", [(PATCH, "Change")]),
        ):
            with contextlib.suppress(SnapshotError, PatchError):
                step()
    assert not canary.file.exists(), canary.file.read_text()
    assert asked == []


@contextlib.contextmanager
def _asked(server: socket.socket) -> Iterator[list[str]]:
    """Who connects to a server."""
    found: list[str] = []

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = server.accept()
                found.append(str(address))
                connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# -- where a repository lies ------------------------------------------------------------------------------------------


def _head(folder: Path) -> str:
    return _git(folder, "rev-parse", "HEAD")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Another repository of the same user, which nobody may touch."""
    return _repository(tmp_path / "private")


def _state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _gitfile(folder: Path, private: Path) -> None:
    (folder / ".git").write_text(f"gitdir: {private}/.git\n")


def _link(folder: Path, private: Path) -> None:
    (folder / ".git").symlink_to(private / ".git")


def _commondir(folder: Path, private: Path) -> None:
    shutil.copytree(private / ".git", folder / ".git")
    (folder / ".git" / "commondir").write_text(f"{private}/.git\n")


@pytest.mark.parametrize("point", [_gitfile, _link, _commondir])
def test_git_of_another_folder_is_refused(private: Path, tmp_path: Path, point: Callable[[Path, Path], None]) -> None:
    """A ``.git`` that names a repository elsewhere, which does not know the folder, is neither read nor written."""
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "module.py").write_text("x = 1\n")
    point(folder, private)
    before = _state(private)
    with pytest.raises(SnapshotError, match="which does not"):
        _take(folder)
    with pytest.raises(PatchError, match="which does not"):
        patches.commit_branch(folder, _head(private), "results", [(PATCH, "Change")])
    assert _state(private) == before


def test_work_tree_elsewhere_is_not_followed(repository: Path, private: Path) -> None:
    """``core.worktree`` does not move the work tree: the folder with ``.git`` is taken."""
    _git(repository, "config", "core.worktree", str(private))
    (private / "module.py").write_text("secret\n")
    taken = _take(repository)
    assert (taken.files, taken.dirty) == (3, False)


@pytest.mark.parametrize(
    "place", ["refs/heads", "refs/heads/results", "logs/refs/heads", "logs/refs/heads/results", "objects"]
)
def test_nothing_is_written_through_links(repository: Path, tmp_path: Path, place: str) -> None:
    """References, their logs and objects that lead elsewhere are refused before anything is written."""
    elsewhere = tmp_path / "elsewhere"
    path = repository / ".git" / place
    if path.is_dir():
        path.rename(elsewhere)
    else:
        elsewhere.write_text("")
    path.symlink_to(elsewhere)
    before = _state(tmp_path / "elsewhere") or elsewhere.stat().st_size
    with pytest.raises((PatchError, UsageError)):
        patches.commit_branch(repository, "HEAD", "results", [(PATCH, "Change")], force=True)
    assert (_state(tmp_path / "elsewhere") or elsewhere.stat().st_size) == before


@pytest.mark.parametrize("path", ["../secret.x", "src/../../s", "/etc/hostname", "./module.py", "src//module"])
def test_index_that_names_files_outside_is_refused(repository: Path, path: str) -> None:
    """No file outside the folder travels, whatever paths a crafted index has."""
    written = "z" * len(path)
    (repository / written).touch()
    _git(repository, "add", written)
    index = repository / ".git" / "index"
    content = index.read_bytes()[:-20].replace(written.encode(), path.encode())
    index.write_bytes(content + hashlib.sha1(content, usedforsecurity=False).digest())
    (repository.parent / "secret.x").touch()
    with pytest.raises(SnapshotError, match="leads outside"):
        _take(repository)


@pytest.mark.parametrize("name", [".git", ".git/HEAD", ".git/index", ".git/config", ".git/packed-refs"])
def test_pipes_are_not_waited_for(repository: Path, name: str) -> None:
    """A pipe where git would read is a refusal, not a wait."""
    path = repository / name
    if path.is_dir():
        path.rename(repository / "was")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(SnapshotError, match="git cannot read"):
        _take(repository)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_repository_is_gits_to_refuse(repository: Path, home: Path) -> None:
    """Git's own words refuse what another user owns; the user's ``safe.directory`` lets it in, its own does not."""
    os.chown(repository, 65534, 65534)
    _git(repository.parent, "config", "--file", str(repository / ".git" / "config"), "safe.directory", "*")
    with pytest.raises(SnapshotError, match="dubious ownership"):
        _take(repository)
    _git(home, "config", "--global", "safe.directory", str(repository))
    assert _take(repository).files == 3


# -- what users need --------------------------------------------------------------------------------------------------


def _works(folder: Path) -> None:
    """A clean tree is clean, a change is seen, and a branch is made on top of what is checked out."""
    head = _head(folder)
    taken = _take(folder)
    assert (taken.commit, taken.dirty) == (head, False)
    commit = patches.commit_branch(folder, head, "tta/results", [(PATCH, "Change module")])
    assert _git(folder, "rev-parse", "tta/results", "tta/results^").split() == [commit, head]
    assert _git(folder, "diff", "--name-only", "HEAD", "tta/results").split() == ["module.py", "tests/test_m.py"]
    assert "tta: results of a run" in _git(folder, "reflog", "show", "tta/results")
    assert _git(folder, "fsck", "--connectivity-only") == ""
    assert not _take(folder).dirty
    (folder / "module.py").write_text("x = 3\n")
    assert _take(folder).dirty


@pytest.mark.parametrize("kind", ["plain", "sha256", "packed", "detached"])
def test_repositories_of_each_kind(tmp_path: Path, kind: str) -> None:
    """Other hashes, packed references and objects, and a detached HEAD work like any other."""
    folder = _repository(tmp_path / "it", *(["--object-format=sha256"] if kind == "sha256" else []))
    if kind == "packed":
        _git(folder, "gc", "-q")
        _git(folder, "pack-refs", "--all")
    if kind == "detached":
        _git(folder, "checkout", "-q", "--detach")
    _works(folder)


def test_linked_work_tree(repository: Path, tmp_path: Path) -> None:
    """A work tree has HEAD and index of its own; branches are shared, and one checked out elsewhere stays."""
    tree = tmp_path / "tree"
    _git(repository, "worktree", "add", "-q", "-b", "side", str(tree))
    (tree / "src" / "m.py").write_text("y = 2\n")
    _git(tree, "commit", "-q", "-a", "-m", "second")
    _works(tree)
    assert _git(repository, "branch", "--list", "tta/results")
    for folder, name in ((repository, "side"), (tree, "main")):
        with pytest.raises(PatchError, match="checked out"):
            patches.commit_branch(folder, "HEAD", name, [(PATCH, "Change")], force=True)
    assert tracked_below(tree / "src", error=TtaError)


def test_work_trees_of_a_bare_repository(repository: Path, tmp_path: Path) -> None:
    """A bare repository, named by a ``.git`` file above its work trees, serves these; above them there is no tree."""
    place = tmp_path / "place"
    _git(tmp_path, "clone", "-q", "--bare", str(repository), str(place / ".bare"))
    (place / ".git").write_text("gitdir: ./.bare\n")
    _git(place, "worktree", "add", "-q", "main")
    _git(place / "main", "config", "core.logAllRefUpdates", "true")
    _works(place / "main")
    with pytest.raises(UsageError, match="must be run in a work tree"):
        patches.check_branch(place, "results")


def test_submodule_is_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    """In a submodule's folder it is the submodule that is taken and gets the branch."""
    _repository(tmp_path / "outer")
    _git(tmp_path / "outer", "submodule", "--quiet", "add", str(repository), "inner")
    _works(tmp_path / "outer" / "inner")
    assert not _git(tmp_path / "outer", "branch", "--list", "tta/results")


def test_separate_git_folder_needs_to_know_its_work_tree(tmp_path: Path) -> None:
    """``git init --separate-git-dir`` works once that folder says where its work tree is, as the message asks."""
    folder = _repository(tmp_path / "it", f"--separate-git-dir={tmp_path / 'there.git'}")
    with pytest.raises(SnapshotError, match=r"git --git-dir=.*there.git config core.worktree"):
        _take(folder)
    _git(folder, f"--git-dir={tmp_path / 'there.git'}", "config", "core.worktree", str(folder))
    _works(folder)


def test_shallow_and_partial_clones(repository: Path, tmp_path: Path) -> None:
    """What was not cloned is not needed: neither old commits, nor files that are not checked out."""
    (repository / "module.py").write_text("x = 1\n")
    _git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    _git(repository, "config", "uploadpack.allowFilter", "true")
    _git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", "shallow")
    _works(tmp_path / "shallow")
    _git(tmp_path, "clone", "-q", "--filter=blob:none", "--sparse", f"file://{repository}", "partial")
    partial = tmp_path / "partial"
    assert not (partial / "src").exists()
    head = _head(partial)
    assert not _take(partial).dirty
    patches.commit_branch(partial, head, "results", [(PATCH, "Change module")])
    assert _git(partial, "log", "-1", "--format=%s", "results") == "Change module"


@pytest.mark.parametrize("index", ["--no-sparse-index", "--sparse-index"])
def test_sparse_checkout(repository: Path, index: str) -> None:
    """Files that are not checked out are no change, also where the index leaves out whole folders."""
    (repository / "docs").mkdir()
    (repository / "docs" / "page").write_text("page\n")
    _git(repository, "add", ".")
    _git(repository, "commit", "-q", "-m", "docs")
    _git(repository, "sparse-checkout", "set", "--cone", index, "src")
    taken = _take(repository)
    assert (taken.files, taken.dirty) == (3, False)
    _works(repository)


def test_split_index(repository: Path) -> None:
    """An index in two files is read as one."""
    _git(repository, "update-index", "--split-index")
    (repository / "new.py").write_text("z = 1\n")
    _git(repository, "add", "new.py")
    assert _take(repository).files == 4


def test_unborn_branch_and_intent_to_add(tmp_path: Path) -> None:
    """Before the first commit there is none; `git add -N` is enough to travel, and to be no untracked module."""
    _git(tmp_path, "init", "-q")
    (tmp_path / "module.py").write_text("x = 1\n")
    _git(tmp_path, "add", "-N", "module.py")
    taken = _take(tmp_path)
    assert (taken.files, taken.commit, taken.dirty, taken.warnings) == (1, "", False, ())


def test_line_ends_as_configured(repository: Path) -> None:
    """With ``core.autocrlf``, the user's or the repository's, files with CRLF are no change, however old."""
    for scope in (["--global"], ["--local"]):
        _git(repository, "config", *scope, "core.autocrlf", "true")
        (repository / "module.py").unlink()
        _git(repository, "checkout", "--", "module.py")
        assert (repository / "module.py").read_bytes() == b"x = 1\r\n"
        os.utime(repository / "module.py", (0, 0))
        assert not _take(repository).dirty
        _git(repository, "config", *scope, "--unset", "core.autocrlf")
    _git(repository, "config", "core.autocrlf", "true")
    (repository / "module.py").write_bytes(b"x = 2\r\n")
    assert _take(repository).dirty


def test_filtered_files_are_as_git_left_them(repository: Path) -> None:
    """A file that a filter (Git LFS) wrote is clean while it is as git noted at checkout, and changed once touched."""
    _git(repository, "config", "filter.upper.clean", "tr A-Z a-z")
    _git(repository, "config", "filter.upper.smudge", "tr a-z A-Z")
    (repository / ".gitattributes").write_text("*.bin filter=upper\n")
    _git(repository, "add", ".gitattributes")
    _git(repository, "commit", "-q", "-m", "attributes")
    (repository / "data.bin").unlink()
    _git(repository, "checkout", "--", "data.bin")
    assert (repository / "data.bin").read_text() == "DATA\n"
    os.utime(repository / "data.bin", (1, 1))
    _git(repository, "update-index", "--refresh")
    assert not _take(repository).dirty
    os.utime(repository / "data.bin", (2, 2))
    assert _take(repository).dirty, "nobody undoes the filter, so nobody can tell"


def test_ignored_as_the_user_and_the_repository_say(repository: Path, home: Path) -> None:
    """Modules that the user's own list, or the repository's private one, ignores are not warned about."""
    for name in ("a.py", "b.py", "c.py"):
        (repository / name).touch()
    (home / "ignored").write_text("a.py\n")
    _git(home, "config", "--global", "core.excludesFile", "~/ignored")
    (repository / ".git" / "info" / "exclude").write_text("b.py\n")
    (warning,) = _take(repository).warnings
    assert warning.startswith("1 Python files")


def test_author_is_who_the_user_says(repository: Path, home: Path) -> None:
    """The user's own name, also one for this folder alone; the repository's own settings of a name come before."""
    _git(home, "config", "--global", "user.name", 'Ada "L" \\ Byron')
    _git(home, "config", "--global", "user.email", "ada@example.org")
    (home / "work").write_text("[user]\n\temail = ada@work.example\n")
    _git(home, "config", "--global", f"includeIf.gitdir:{repository}/.path", "~/work")
    patches.commit_branch(repository, "HEAD", "one", [(PATCH, "Change")])
    assert _git(repository, "log", "-1", "--format=%an %ae", "one") == 'Ada "L" \\ Byron ada@work.example'
    _git(repository, "config", "user.name", "Countess")
    patches.commit_branch(repository, "HEAD", "two", [(PATCH, "Change")])
    assert _git(repository, "log", "-1", "--format=%an %ae", "two") == "Countess ada@work.example"


def test_unknown_extensions_are_gits_to_refuse(repository: Path) -> None:
    """A repository stored in a way that this git does not know is refused by git, not misread."""
    _git(repository, "config", "core.repositoryFormatVersion", "1")
    _git(repository, "config", "extensions.unheard", "true")
    with pytest.raises(SnapshotError, match="unheard"):
        _take(repository)


def test_tracked_below_a_folder(repository: Path) -> None:
    """A folder is tracked if git tracks anything in it, whatever its case, and whatever repository is inside it."""
    for name in (".tta", "absent"):
        assert not tracked_below(repository / name, error=TtaError)
    (repository / ".TTA").mkdir()
    (repository / ".TTA" / "targets.toml").touch()
    _git(repository, "add", ".TTA")
    assert tracked_below(repository / ".tta", error=TtaError)
    _repository(repository / "nested")
    assert not tracked_below(repository / "nested", error=TtaError)
    assert tracked_below(repository / "src", error=TtaError)
    assert not tracked_below(repository.parent / "src", error=TtaError)


def test_a_folder_named_git_that_is_no_repository_is_passed_by(repository: Path, tmp_path: Path) -> None:
    """As git does: the one above counts; without one, the folder is not taken for a plain one."""
    (repository / "src" / ".git").mkdir()
    assert _take(repository / "src").files == 1
    (tmp_path / "plain" / ".git").mkdir(parents=True)
    (tmp_path / "plain" / "file").touch()
    with pytest.raises(SnapshotError, match="not a git repository"):
        _take(tmp_path / "plain")
    with pytest.raises(GitFailed, match="not a git repository"), opened(tmp_path, error=TtaError):
        pass


# -- one place --------------------------------------------------------------------------------------------------------


def _starts_git(node: ast.AST) -> bool:
    first = node.elts[0] if isinstance(node, ast.List | ast.Tuple) and node.elts else None
    return isinstance(first, ast.Constant) and first.value == "git"


def test_git_is_started_in_one_place() -> None:
    """No other module of the product makes a command of git, but for the program that clones in the sandbox."""
    found = {
        str(path.relative_to(ROOT))
        for package in ("tta_tasks", "workers", "orchestrator")
        for path in (ROOT / package).rglob("*.py")
        if any(map(_starts_git, ast.walk(ast.parse(path.read_text()))))
    }
    assert found == {"tta_tasks/git.py", "workers/environment/programs/fetch_git.py"}
