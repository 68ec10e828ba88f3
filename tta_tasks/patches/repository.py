"""Patches into the user's own repository: as a branch, beside everything that is checked out, or into the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.errors import PatchError, TtaError, UsageError
from tta_tasks.git import GitFailed, Repository, opened
from tta_tasks.patches.tree import apply, paths

#: Who commits where the user has not said who they are.
NOBODY = {"name": "tta", "email": "tta@localhost"}


@contextmanager
def _opened(folder: Path, error: type[TtaError]) -> Iterator[_WorkTree]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(opened(folder, error=error))
        except GitFailed as fault:
            raise error(f"{folder} is not in a git work tree: {fault}.", "A branch needs a git repository.") from fault
        yield _WorkTree(found)


@dataclass(frozen=True)
class _WorkTree:
    """A git work tree of the user's, and the folder in it that was taken as snapshot."""

    repository: Repository

    def git(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What git says there, or PatchError."""
        try:
            return self.ask(*arguments, stdin=stdin, env=env)
        except GitFailed as error:
            raise PatchError(f"git {arguments[0]} failed in {self.repository.top}: {error}.") from error

    def ask(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What git says there, or GitFailed."""
        found = self.repository.run(*arguments, cwd=self.repository.top, stdin=stdin, env=env)
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
    with _opened(repository, UsageError) as work_tree:
        _free_branch(work_tree, branch, force=False, error=UsageError)


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
    with _opened(repository, PatchError) as work_tree, tempfile.TemporaryDirectory(prefix="tta-index-") as folder:
        _free_branch(work_tree, branch, force=force, error=PatchError)
        try:
            parent = work_tree.ask("rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}") if base else ""
        except GitFailed as error:
            raise PatchError(
                f"The repository has no commit {base!r} any more.", "Was its history rewritten?"
            ) from error
        env = {**_identity(work_tree), "GIT_INDEX_FILE": str(Path(folder, "index"))}
        work_tree.git("read-tree", parent or "--empty", env=env)
        try:
            work_tree.repository.check_objects()
            for patch, message in patches:
                if paths(patch):
                    parent = _commit(work_tree, parent, patch, message, env)
            if not parent:
                raise PatchError("There is nothing to commit, and no commit to start from.")
            work_tree.repository.update_branch(branch, parent, force=force, reason="tta: results of a run")
        except GitFailed as error:
            raise PatchError(f"The branch {branch} cannot be made: {error}.") from error
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
        return apply(b"".join(patches), repository.resolve())
    except PatchError as error:
        raise PatchError(
            f"{repository} was left as it is. {error.message}",
            error.hint or "Were the files changed since the run began? The patches are still there to apply by hand.",
        ) from error


def _commit(work_tree: _WorkTree, parent: str, patch: bytes, message: str, env: dict[str, str]) -> str:
    prefix = work_tree.repository.prefix
    directory = (f"--directory={prefix}",) if prefix else ()
    try:
        work_tree.ask("apply", "--cached", "--whitespace=nowarn", *directory, stdin=patch, env=env)
    except GitFailed as error:
        raise PatchError(
            f"The patch for {message.splitlines()[0]!r} does not apply to commit {parent[:10] or '(none)'}: {error}.",
            "If the run began with uncommitted changes, the patch builds on them: commit them and run again, or apply "
            "the patch to the working tree.",
        ) from error
    # Files that a partial clone has not fetched are those of the commit before.
    tree = work_tree.git("write-tree", "--missing-ok", env=env)
    parents = ("-p", parent) if parent else ()
    return work_tree.git("commit-tree", "--no-gpg-sign", *parents, tree, stdin=message.encode(), env=env)


def _free_branch(work_tree: _WorkTree, branch: str, *, force: bool, error: type[TtaError]) -> None:
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or branch == "HEAD" or not work_tree.agrees("check-ref-format", ref):
        raise error(f"{branch!r} is no name for a branch.", "See `git help check-ref-format`.")
    if not force and work_tree.agrees("show-ref", "--verify", "--quiet", ref):
        raise error(f"The branch {branch} exists already.", "Delete it, or choose another name.")
    if f"branch {ref}" in work_tree.git("worktree", "list", "--porcelain").splitlines():
        raise error(f"The branch {branch} is checked out.", "Choose another name, so that no working tree changes.")


def _identity(work_tree: _WorkTree) -> dict[str, str]:
    """The user's own, from their configuration or environment; each part they have not set is neutral."""
    return {
        name: os.environ.get(name, neutral)
        for key, neutral in NOBODY.items()
        if not work_tree.agrees("config", "--get", f"user.{key}")
        for name in (f"GIT_AUTHOR_{key.upper()}", f"GIT_COMMITTER_{key.upper()}")
    }
