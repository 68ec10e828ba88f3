"""Fetches one revision of a git repository, without its history and without running anything of it.

Run as ``python -I -S fetch_git.py URL REVISION INTO HOST...``; see ``fetch_url.py`` for the hosts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

sys.path.append(os.path.dirname(__file__))  # noqa: PTH120
from fetch_url import look_up  # type: ignore[import-not-found]

#: Nothing is taken from any configuration, nothing is asked, and no other way leads anywhere.
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "https",
}  # fmt: skip


def main(url: str, revision: str, into: str, *trusted: str) -> None:
    """Leave the revision's files, with those of its submodules, in ``into``."""
    parts = urlsplit(url)
    if parts.netloc.rpartition("@")[2] not in trusted and not os.environ.get("HTTPS_PROXY"):
        look_up(parts.hostname or "", parts.port or 443)
    _git("init", "--quiet", into)
    here = ("-C", into, "-c", "http.followRedirects=initial", "-c", "core.hooksPath=/dev/null")
    for depth in (("--depth", "1"), ()):
        wanted = [revision or "HEAD"] if depth else ["+refs/*:refs/fetched/*"]
        if _git(*here, "fetch", "--quiet", *depth, url, *wanted, check=not depth):
            break
    found = _git(*here, "checkout", "--quiet", "--detach", "FETCH_HEAD" if depth else revision, check=True)
    if found and os.path.exists(os.path.join(into, ".gitmodules")):  # noqa: PTH110, PTH118
        _git(*here, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1", check=True)


def _git(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["git", *words], env={**os.environ, **ENVIRONMENT}, check=False)  # noqa: S607
    if check and done.returncode:
        sys.exit(f"error: git ended with status {done.returncode}")
    return not done.returncode


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: {error}")
