"""Patches into the user's own repository: as a branch, beside everything that is checked out, or into the files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.errors import PatchError, TtaError, UsageError
from tta_tasks.git import GitFailed, git, users_environment
from tta_tasks.patches.tree import apply, paths

#: Who commits where the user has not said who they are.
NOBODY = {"name": "tta", "email": "tta@localhost"}


@dataclass(frozen=True)
class _Repository:
    """A git work tree of the user's, and the folder in it that was taken as snapshot."""

    top: Path
    #: From ``top`` to that folder, with a slash at its end; empty for ``top`` itself.
    prefix: str

    @classmethod
    def of(cls, folder: Path, error: type[TtaError]) -> _Repository:
        try:
            found = git("rev-parse", "--show-toplevel", "--show-prefix", cwd=folder, error=error)
        except GitFailed as fault:
            raise error(f"{folder} is not in a git work tree: {fault}.", "A branch needs a git repository.") from fault
        top, prefix = found.decode("utf-8", "surrogateescape").split("\n")[:2]
        return cls(Path(top), prefix)

    def git(self, *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
        """What git says there, or PatchError."""
        try:
            return self.ask(*arguments, env=env, stdin=stdin)
        except GitFailed as error:
            raise PatchError(f"git {arguments[0]} failed in {self.top}: {error}.") from error

    def ask(self, *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
        """What git says there, or GitFailed."""
        found = git(*arguments, cwd=self.top, env=env, stdin=stdin, error=PatchError)
        return found.decode("utf-8", "surrogateescape").strip()

    def agrees(self, *arguments: str) -> bool:
        """Whether git ends well."""
        try:
            self.ask(*arguments)
        except GitFailed:
            return False
        return True


def check_branch(repository: Path, branch: str) -> None:
    """See whether :func:`commit_branch` could make ``branch``.

    Raises:
        UsageError: This is no git repository, the name is no branch's, or a branch of that name exists.
    """
    _free_branch(_Repository.of(repository, UsageError), branch, force=False, error=UsageError)


def commit_branch(
    repository: Path, base: str, branch: str, patches: Sequence[tuple[bytes, str]], *, force: bool = False
) -> str:
    """Make a branch with one commit a patch. Working tree, index and HEAD stay as they are; no hook runs.

    Args:
        repository: The folder that was taken as snapshot: a git work tree, or a folder inside one.
        base: The commit to start from, the snapshot's; empty starts a history of its own.
        branch: The new branch.
        patches: Each with its commit message, in order; each on top of those before. Empty ones are left out.
        force: Replace a branch of that name, unless it is checked out.

    Returns:
        The last commit.

    Raises:
        PatchError: The branch exists, ``base`` does not, or a patch does not apply to it.
    """
    work_tree = _Repository.of(repository, PatchError)
    _free_branch(work_tree, branch, force=force, error=PatchError)
    try:
        parent = work_tree.ask("rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}") if base else ""
    except GitFailed as error:
        raise PatchError(f"The repository has no commit {base!r} any more.", "Was its history rewritten?") from error
    with tempfile.TemporaryDirectory(prefix="tta-index-") as folder:
        env = {**users_environment(), **_identity(work_tree), "GIT_INDEX_FILE": str(Path(folder, "index"))}
        work_tree.git("read-tree", parent or "--empty", env=env)
        for patch, message in patches:
            if paths(patch):
                parent = _commit(work_tree, parent, patch, message, env)
    if not parent:
        raise PatchError("There is nothing to commit, and no commit to start from.")
    # An empty old value: somebody else's branch of that name, made meanwhile, stays theirs.
    unless_there = () if force else ("",)
    work_tree.git("update-ref", "-m", "tta: results of a run", f"refs/heads/{branch}", parent, *unless_there)
    return parent


def apply_to_worktree(repository: Path, patches: Sequence[bytes]) -> tuple[str, ...]:
    """Apply patches, each on top of those before, to the files of a repository or folder: all of them, or nothing.

    The index stays as it is, so that ``git diff`` shows what was done.

    Returns:
        The files changed.

    Raises:
        PatchError: They do not apply to the files as they are now.
    """
    try:
        # git checks a patch as a whole before it writes; so they become one.
        return apply(b"".join(patches), repository)
    except PatchError as error:
        raise PatchError(
            f"{repository} was left as it is. {error.message}",
            error.hint or "Were the files changed since the run began? The patches are still there to apply by hand.",
        ) from error


def _commit(work_tree: _Repository, parent: str, patch: bytes, message: str, env: dict[str, str]) -> str:
    directory = (f"--directory={work_tree.prefix}",) if work_tree.prefix else ()
    try:
        work_tree.ask("apply", "--cached", "--whitespace=nowarn", *directory, env=env, stdin=patch)
    except GitFailed as error:
        raise PatchError(
            f"The patch for {message.splitlines()[0]!r} does not apply to commit {parent[:10] or '(none)'}: {error}.",
            "If the run began with uncommitted changes, the patch builds on them: commit them and run again, or apply "
            "the patch to the working tree.",
        ) from error
    tree = work_tree.git("write-tree", env=env)
    parents = ("-p", parent) if parent else ()
    return work_tree.git("commit-tree", "--no-gpg-sign", *parents, tree, env=env, stdin=message.encode())


def _free_branch(work_tree: _Repository, branch: str, *, force: bool, error: type[TtaError]) -> None:
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or branch == "HEAD" or not work_tree.agrees("check-ref-format", ref):
        raise error(f"{branch!r} is no name for a branch.", "See `git help check-ref-format`.")
    if not force and work_tree.agrees("show-ref", "--verify", "--quiet", ref):
        raise error(f"The branch {branch} exists already.", "Delete it, or choose another name.")
    if f"branch {ref}" in work_tree.git("worktree", "list", "--porcelain").splitlines():
        raise error(f"The branch {branch} is checked out.", "Choose another name, so that no working tree changes.")


def _identity(work_tree: _Repository) -> dict[str, str]:
    """The user's own, from their configuration or environment; each part they have not set is neutral."""
    given = users_environment()
    return {
        name: given.get(name, neutral)
        for key, neutral in NOBODY.items()
        if not work_tree.agrees("config", "--get", f"user.{key}")
        for name in (f"GIT_AUTHOR_{key.upper()}", f"GIT_COMMITTER_{key.upper()}")
    }
