"""Every call of git, made so that nothing in the repository at hand decides what is run.

A repository is a folder that anybody may have made: its configuration names programs (filters, hooks, file-system
monitors, transports, signers, pagers), its attributes choose among them, and its ``.git`` may be a file that names
somebody else's repository. So git never reads that configuration. :func:`opened` finds the repository as git does, but
with no git running, and gives git a *common directory of our own* in place of the repository's: there lie a
configuration that we wrote, and links to the references; the objects, HEAD and the index are the repository's. What
may be configured is the list :data:`MIRRORED`: settings that only describe files, and who the author is.

git itself decides on a repository of another user (``safe.directory``).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.errors import TtaError
from tta_tasks.foreign import ForeignTree

__all__ = ["GitFailed", "Repository", "bare_environment", "git", "in_work_tree", "opened", "tracked_below"]

#: Seconds after which git is taken to hang.
TIMEOUT_S = 300.0
#: Largest configuration, list of excluded names, and file that names a folder.
MAX_CONFIG_BYTES = 1 << 20

#: Settings that a repository or its user may make. None of them names a program, or a file outside the repository.
MIRRORED = frozenset(
    {
        "core.repositoryformatversion", "core.autocrlf", "core.eol", "core.filemode", "core.symlinks",
        "core.ignorecase", "core.precomposeunicode", "core.trustctime", "core.checkstat", "core.sparsecheckout",
        "core.sparsecheckoutcone", "core.sharedrepository", "user.name", "user.email", "author.name", "author.email",
        "committer.name", "committer.email",
    }
)  # fmt: skip
#: Those that only the user may make: it names a file of theirs, which git reads.
USERS_ONLY = frozenset({"core.excludesfile"})
#: A repository's extensions that need nothing here: objects that are missing stay so, and we read both configurations.
_NEEDLESS = frozenset({"extensions.partialclone", "extensions.worktreeconfig"})
#: Of a repository's common directory, what git may find in ours: references, and where their histories are cut.
_LINKED = ("HEAD", "refs", "packed-refs", "logs", "reftable", "shallow", "worktrees")

#: Nothing that any configuration could make git start, and no lock taken for mere reading.
_SAFE = (
    "--no-optional-locks", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
    "-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "submodule.recurse=false",
)  # fmt: skip
#: The same for what no option says, and for versions of git that know it; replaced objects would not be the commit's.
_SAFE_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ATTR_NOSYSTEM": "1",
}
#: What is the user's word, and not that of a hook that runs us, which would point git elsewhere.
_USERS = re.compile(r"GIT_(AUTHOR|COMMITTER)_(NAME|EMAIL|DATE)|GIT_EXEC_PATH|(?!GIT_).*", re.DOTALL)
_CONFIGURATION = re.compile(r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+|PARAMETERS)")


class GitFailed(Exception):
    """git ended with an error, or is not to be run there; the message says why."""


# -- running ----------------------------------------------------------------------------------------------------------


def bare_environment(git_dir: Path) -> dict[str, str]:
    """The environment for git in a repository of our own: no user's and no system's configuration or attributes."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(git_dir),
        "GIT_DIR": str(git_dir),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **_SAFE_ENVIRONMENT,
    }


def git(*arguments: str, cwd: Path, env: Mapping[str, str], error: type[TtaError], stdin: bytes = b"") -> bytes:
    """Run git to its end and return what it printed.

    Args:
        arguments: The command and its arguments.
        cwd: Where to run it.
        env: Its whole environment: :func:`bare_environment`, or that of a :class:`Repository`.
        error: What to raise when git itself cannot be run.
        stdin: Its standard input.

    Raises:
        GitFailed: It ended with an error.
    """
    try:
        done = subprocess.run(
            ["git", *_SAFE, *arguments],  # noqa: S607 - git is looked up on PATH on purpose
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as fault:
        if fault.filename == "git":
            raise error("The program git was not found.", "Install git and put it on PATH.") from fault
        raise GitFailed(f"{fault.filename}: {fault.strerror}") from fault
    except subprocess.TimeoutExpired as fault:
        raise error(f"git {arguments[0]} did not end within {TIMEOUT_S:.0f} s.", "Is the disk reachable?") from fault
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise GitFailed("; ".join(line.removeprefix("error: ").removeprefix("fatal: ") for line in said)[-2000:])
    return done.stdout


# -- a repository of anybody's ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """A git work tree that anybody may have made, and the folder in it that is meant. :func:`opened` makes it."""

    #: The work tree's root.
    top: Path
    #: Where commands run: ``top``, or a folder below it.
    folder: Path
    #: Where the references and objects are.
    common: Path
    environment: Mapping[str, str]
    #: What is raised when git cannot be run.
    error: type[TtaError]

    @property
    def prefix(self) -> str:
        """From ``top`` to ``folder``, with a slash at its end; empty for ``top`` itself."""
        inside = self.folder.relative_to(self.top).as_posix()
        return "" if inside == "." else f"{inside}/"

    def run(
        self, *arguments: str, cwd: Path | None = None, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> bytes:
        """What git prints in ``folder``, or in ``cwd``; ``env`` is added to its environment.

        Raises:
            GitFailed: It ended with an error.
        """
        environment = {**self.environment, **(env or {})}
        return git(*arguments, cwd=cwd or self.folder, env=environment, error=self.error, stdin=stdin)

    def update_branch(self, branch: str, commit: str, *, force: bool, reason: str) -> None:
        """Let ``branch`` be ``commit``; with ``force`` even if there is a branch of that name.

        Raises:
            GitFailed: There is one, or the reference cannot be written.
        """
        ref = f"refs/heads/{branch}"
        for path in (ref, f"logs/{ref}", "reftable"):
            _refuse_links(self.common, path)
        # An empty old value: somebody else's branch of that name, made meanwhile, stays theirs.
        unless_there = () if force else ("",)
        self.run("update-ref", "--no-deref", "-m", reason, ref, commit, *unless_there)

    def check_objects(self) -> None:
        """See that objects are written where the repository is, and nowhere else.

        Raises:
            GitFailed: They are not.
        """
        for path in ("objects", *(f"objects/{number:02x}" for number in range(256)), "objects/pack"):
            _refuse_links(self.common, path)


@contextlib.contextmanager
def opened(folder: Path, *, error: type[TtaError]) -> Iterator[Repository]:
    """The repository whose work tree holds ``folder``, for as long as the context lasts.

    Args:
        folder: A folder in a work tree.
        error: What is raised when git cannot be run.

    Raises:
        GitFailed: There is none, it is another user's, or it is not what it claims to be.
    """
    folder = folder.resolve()
    place = _find(folder, error)
    try:
        with tempfile.TemporaryDirectory(prefix="tta-git-") as scratch:
            yield Repository(place.top, folder, place.common, _environment(place, Path(scratch), error), error)
    except OSError as fault:
        raise GitFailed(f"{fault.filename}: {fault.strerror}") from fault


def in_work_tree(folder: Path) -> bool:
    """Whether ``folder``, or a folder above it, has ``.git``."""
    return any(os.path.lexists(above / ".git") for above in (folder, *folder.parents))


def tracked_below(folder: Path, *, error: type[TtaError]) -> bool:
    """Whether the repository that holds ``folder`` tracks it, or anything in it; a repository *in* it does not count.

    Args:
        folder: It need not exist, but the folder that holds it must.
        error: What is raised when git cannot be run.

    Raises:
        GitFailed: git refuses the repository.
    """
    holder = folder.parent.resolve()
    if not in_work_tree(holder):
        return False
    with opened(holder, error=error) as repository:
        # Some file systems take names that differ in case for one.
        return bool(repository.run("ls-files", "-z", "--", f":(literal,icase){folder.name}"))


# -- finding it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    top: Path
    #: HEAD and the index.
    git_dir: Path
    #: References, objects and configuration; another than ``git_dir`` for a linked work tree.
    common: Path


def _find(folder: Path, error: type[TtaError]) -> _Place:
    for top in (folder, *folder.parents):
        marker = top / ".git"
        if not os.path.lexists(marker):
            continue
        place = _place(top, marker, error)
        # As git does, a folder of that name that holds no repository is passed by.
        if place is not None:
            _check_owner(place, marker, error)
            return place
    raise GitFailed("not a git repository (or any of the parent directories): .git")


def _place(top: Path, marker: Path, error: type[TtaError]) -> _Place | None:
    mode = marker.lstat().st_mode
    if stat.S_ISREG(mode):
        told, _, named = _line(top, ".git").partition("gitdir: ")
        if told or not named:
            raise GitFailed(f"invalid gitfile format: {marker}")
        git_dir = (top / named).resolve()
    elif stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        git_dir = marker.resolve()
    else:
        raise GitFailed(f"{marker} is neither a folder nor a file")
    common = _common(git_dir)
    if not (os.path.lexists(git_dir / "HEAD") and (common / "objects").is_dir() and (common / "refs").is_dir()):
        if stat.S_ISDIR(mode):
            return None
        raise GitFailed(f"not a git repository: {git_dir}")
    if not stat.S_ISDIR(mode) and not _belongs(git_dir, top, marker, error):
        raise GitFailed(
            f"{marker} names {git_dir}, which does not name {top}. If the folder was moved, run `git worktree repair` "
            f"in it. If the two belong together, run `git --git-dir={git_dir} config core.worktree {top}`"
        )
    return _Place(top, git_dir, common)


def _common(git_dir: Path) -> Path:
    if not os.path.lexists(git_dir / "commondir"):
        return git_dir
    common = (git_dir / _line(git_dir, "commondir")).resolve()
    if git_dir.parent != common / "worktrees":
        raise GitFailed(f"{git_dir}/commondir names {common}, which does not hold it")
    return common


def _belongs(git_dir: Path, top: Path, marker: Path, error: type[TtaError]) -> bool:
    """Whether a repository outside its work tree says that it belongs there: else anybody's could be named."""
    if git_dir.is_relative_to(top):
        return True
    with contextlib.suppress(OSError, GitFailed):
        if (git_dir / _line(git_dir, "gitdir")).parent.resolve() / ".git" == marker:
            return True
    work_tree = _configuration(git_dir, error).get("core.worktree")
    return work_tree is not None and (git_dir / os.fsdecode(work_tree)).resolve() == top


def _check_owner(place: _Place, marker: Path, error: type[TtaError]) -> None:
    if any(path.lstat().st_uid != os.geteuid() for path in (place.top, marker, place.git_dir)):
        # Another user's: git refuses it, unless the user's own configuration says that it is safe.
        git("rev-parse", "--git-dir", cwd=place.top, env=_users_environment(), error=error)


def _line(folder: Path, name: str) -> str:
    try:
        return os.fsdecode(ForeignTree(folder).read_bytes(name, max_bytes=MAX_CONFIG_BYTES)).removesuffix("\n")
    except OSError as fault:
        raise GitFailed(f"{folder / name}: {fault.strerror}") from fault


def _refuse_links(folder: Path, path: str) -> None:
    parts = Path(path).parts
    for depth in range(len(parts)):
        part = folder.joinpath(*parts[: depth + 1])
        if part.is_symlink():
            raise GitFailed(f"{part} is a symbolic link, and nothing is written through it")


# -- what git is told of it -------------------------------------------------------------------------------------------


def _users_environment() -> dict[str, str]:
    """The environment for git with the user's own configuration, wherever a hook that runs us would point it."""
    kept = {k: v for k, v in os.environ.items() if _USERS.fullmatch(k) or _CONFIGURATION.fullmatch(k)}
    return {**kept, **_SAFE_ENVIRONMENT}


def _environment(place: _Place, scratch: Path, error: type[TtaError]) -> dict[str, str]:
    """Make a common directory of our own in ``scratch``; return the environment for git to use it."""
    for path in (place.git_dir / "HEAD", place.git_dir / "index", *(place.common / name for name in _LINKED)):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise GitFailed(f"{path} is neither a file nor a folder")
    for name in _LINKED:
        if os.path.lexists(place.common / name):
            (scratch / name).symlink_to(place.common / name)
    (scratch / "info").mkdir()
    with contextlib.suppress(FileNotFoundError):
        excluded = ForeignTree(place.common).read_bytes("info/exclude", max_bytes=MAX_CONFIG_BYTES)
        (scratch / "info" / "exclude").write_bytes(excluded)
    identity = {k: v for k, v in os.environ.items() if _USERS.fullmatch(k)}
    here = {
        "GIT_DIR": str(place.git_dir),
        "GIT_COMMON_DIR": str(scratch),
        "GIT_OBJECT_DIRECTORY": str(place.common / "objects"),
        "GIT_WORK_TREE": str(place.top),
    }
    theirs = _configuration(place.common, error)
    if _is(theirs.get("extensions.worktreeconfig")):
        theirs |= _configuration(place.git_dir, error, "config.worktree")
    if _is(theirs.get("core.bare")) and place.git_dir == place.common:
        raise GitFailed("this operation must be run in a work tree")
    config = scratch / "config"
    # Before the user's own configuration is asked: conditions in it may name the repository's folder.
    config.write_bytes(_written({k: v for k, v in theirs.items() if _describes(k)}))
    asked = git("config", "--list", "--null", cwd=place.top, env={**_users_environment(), **here}, error=error)
    ours = {k: v for k, v in _parsed(asked).items() if k in MIRRORED | USERS_ONLY}
    config.write_bytes(_written(ours | {k: v for k, v in theirs.items() if k in MIRRORED or _describes(k)}))
    no_other = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**identity, **_SAFE_ENVIRONMENT, **here, **no_other}


def _configuration(folder: Path, error: type[TtaError], name: str = "config") -> dict[str, bytes]:
    """The settings in a file, by their names in lower case; nothing that it includes."""
    try:
        written = ForeignTree(folder).read_bytes(name, max_bytes=MAX_CONFIG_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise GitFailed(f"{folder / name}: {fault.strerror}") from fault
    with tempfile.TemporaryDirectory(prefix="tta-git-") as empty:
        env = bare_environment(Path(empty))
        arguments = ("config", "--file", "-", "--no-includes", "--list", "--null")
        try:
            return _parsed(git(*arguments, cwd=Path(empty), env=env, error=error, stdin=written))
        except GitFailed as fault:
            raise GitFailed(f"{folder / name}: {fault}") from fault


def _parsed(listed: bytes) -> dict[str, bytes]:
    settings = {}
    for record in listed.split(b"\0")[:-1]:
        name, valued, value = record.partition(b"\n")
        settings[os.fsdecode(name)] = value if valued else b"true"
    return settings


def _describes(name: str) -> bool:
    """Whether a setting says how the repository is stored; git refuses what it does not know."""
    section, _, key = name.partition(".")
    extension = section == "extensions" and key.isascii() and key.isalnum() and name not in _NEEDLESS
    return extension or name == "core.repositoryformatversion"


def _written(settings: Mapping[str, bytes]) -> bytes:
    lines = []
    for name, value in settings.items():
        section, _, key = name.partition(".")
        quoted = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
        lines.append(b'[%b]\n\t%b = "%b"\n' % (section.encode(), key.encode(), quoted))
    return b"".join(lines)


def _is(value: bytes | None) -> bool:
    return value is not None and value.lower() in {b"true", b"yes", b"on", b"1"}
