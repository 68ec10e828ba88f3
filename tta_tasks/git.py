"""Running git in a way that only what we say decides what it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tta_tasks.errors import TtaError

#: Seconds after which git is taken to hang.
TIMEOUT_S = 300.0
#: Nothing that a configuration could make git start, and no lock taken for mere reading.
_SAFE = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
#: Set where we are called from a hook, they would point git at another repository or index.
_INHERITED = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX", "GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS",
)  # fmt: skip


def users_environment() -> dict[str, str]:
    """The environment for git in the user's own repository, with the user's own configuration."""
    kept = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}


def bare_environment(git_dir: Path) -> dict[str, str]:
    """The environment for git in a repository of our own: no user's and no system's configuration or attributes."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(git_dir),
        "LC_ALL": "C",
        "GIT_DIR": str(git_dir),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


class GitFailed(Exception):
    """git ended with an error; its message is what git said."""


def git(
    *arguments: str,
    cwd: Path,
    error: type[TtaError],
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> bytes:
    """Run git to its end and return what it printed.

    Args:
        arguments: The command and its arguments.
        cwd: Where to run it.
        error: What to raise when git itself cannot be run.
        env: Its whole environment; the user's own without.
        stdin: Its standard input.

    Raises:
        GitFailed: It ended with an error.
    """
    try:
        done = subprocess.run(
            ["git", *_SAFE, *arguments],  # noqa: S607 - git is looked up on PATH on purpose
            cwd=cwd,
            env=users_environment() if env is None else env,
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
