"""Finds the interpreter a component asks for. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from uv import find_uv_bin

from tta_tasks.errors import EnvironmentFailed
from workers.sandbox import PYTHON

#: Seconds for an interpreter, or the search for one, to answer.
ANSWER_S = 60.0


@dataclass(frozen=True)
class Interpreter:
    """A Python on this host, outside any virtual environment."""

    path: Path
    #: ``3.11.7``
    version: str
    #: What a command must be able to read to run it: the program and its installation. Asked of the interpreter itself,
    #: before anything foreign ran.
    readable: tuple[Path, ...]


@lru_cache(maxsize=32)
def find_interpreter(requires_python: str | None) -> Interpreter:
    """Our own interpreter where it will do, else another one of this host.

    Raises:
        EnvironmentFailed: There is none of that version, or ``requires_python`` makes no sense.
    """
    try:
        wanted = SpecifierSet(requires_python or "")
    except InvalidSpecifier as error:
        raise EnvironmentFailed(
            f"requires-python is {requires_python!r}, which is no version specifier.", "Write it like '>=3.11'."
        ) from error
    if wanted.contains(platform.python_version(), prereleases=True):
        return Interpreter(PYTHON, platform.python_version(), _readable(PYTHON, sys.base_prefix, sys.base_exec_prefix))
    found = subprocess.run(
        [find_uv_bin(), "python", "find", "--system", "--no-project", "--no-config", str(wanted)],
        env=_search_environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    if found.returncode:
        raise EnvironmentFailed(
            f"The component needs Python {wanted}, and this host has none.",
            "Install one (`uv python install`, or the system's packages) and start the worker again.",
        )
    return _ask(Path(found.stdout.strip()))


def _ask(path: Path) -> Interpreter:
    asked = "platform.python_version(), sys.base_prefix, sys.base_exec_prefix"
    program = f"import json, platform, sys; print(json.dumps([{asked}]))"
    answer = subprocess.run(
        [path, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=ANSWER_S, check=True
    )
    version, *prefixes = json.loads(answer.stdout)
    return Interpreter(path, version, _readable(path, *prefixes))


def _readable(path: Path, *prefixes: str) -> tuple[Path, ...]:
    # A prefix of "/" would show everything; what it stands for (/bin, /lib) every command sees.
    return tuple(dict.fromkeys((path, *(Path(prefix) for prefix in prefixes if prefix != "/"))))


def _search_environment() -> dict[str, str]:
    """The host's own, so that interpreters managed by uv are found, but without a choice made for another project."""
    environment = {name: value for name, value in os.environ.items() if name not in {"UV_PYTHON", "VIRTUAL_ENV"}}
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    # pyenv's shims answer for versions that are not switched on; the versions themselves do not.
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder != str(pyenv / "shims")]
    folders += map(str, sorted(pyenv.glob("versions/*/bin")))
    return environment | {"PATH": os.pathsep.join(folders), "UV_PYTHON_DOWNLOADS": "never"}
