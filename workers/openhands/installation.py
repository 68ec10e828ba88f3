"""The engine's own virtual environment: pinned, made once on a host, kept in its cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tta_tasks.errors import EnvironmentFailed, UnknownEngine
from tta_tasks.foreign import ForeignTree, discard
from tta_tasks.models import Check
from tta_tasks.settings import settings
from workers.environment.installer import DEPENDENCIES_FAILED
from workers.environment.interpreters import Interpreter, find_interpreter
from workers.environment.requirements import RequirementReader
from workers.environment.workshop import workshop
from workers.sandbox import detect_sandbox

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: What the pinned packages install on.
PYTHON = ">=3.12,<3.14"
#: Of the pinned packages.
VERSION = next(
    line.split()[0].partition("==")[2]
    for line in REQUIREMENTS.read_text().splitlines()
    if line.startswith("openhands-sdk==")
)
NAME = "openhands"
#: Imports what a runner needs. Without the variable litellm asks the network for prices, and crashes where there is
#: none.
PROBE = (
    "import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True';"
    " import openhands.sdk, openhands.tools.terminal, openhands.tools.file_editor"
)


def engine_python() -> Path | None:
    """The interpreter of the engine's environment, where it is installed on this host."""
    home = _home()
    return home / "venv" / "bin" / "python" if home.with_suffix(".json").is_file() else None


def engine_readable() -> tuple[Path, ...]:
    """What a command must be able to read to run :func:`engine_python`."""
    home = _home()
    said = json.loads(home.with_suffix(".json").read_text(encoding="utf-8"))
    # One that an older version installed does not say.
    return home, *map(Path, said.get("readable") or _interpreter().readable)


def missing() -> str:
    """Why no agent can be started on this host, or an empty string."""
    if engine_python() is None:
        return "it is not installed here: run `tta engines install openhands`"
    return ""


def engines() -> tuple[Check, ...]:
    """The engines with an installation of their own; the entry point ``engines`` of ``tta_tasks.worker``."""
    why_not = missing()
    return (Check(name=NAME, ok=not why_not, detail=why_not or f"{VERSION}, in {_home()}"),)


def install(name: str, progress: Callable[[str], None] = lambda _message: None) -> Path:
    """Install an engine, or find it installed; the entry point ``install`` of ``tta_tasks.worker``.

    Returns:
        The interpreter of its environment.

    Raises:
        UnknownEngine: There is none of that name to install.
        EnvironmentFailed: There is no interpreter for it, or its packages do not install.
    """
    if name != NAME:
        raise UnknownEngine(f"No engine named {name!r} can be installed.", f"There is: {NAME}.")
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_suffix(".lock")):
        if (python := engine_python()) is None:
            interpreter = _interpreter()
            python = _build(home, interpreter, progress)
            said = {"version": VERSION, "readable": [str(path) for path in interpreter.readable]}
            home.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")
    return python


def _interpreter() -> Interpreter:
    try:
        return find_interpreter(PYTHON)
    except EnvironmentFailed as error:
        raise EnvironmentFailed(
            f"OpenHands agents need Python {PYTHON}, and this host has none.",
            "Install one (the system's packages, pyenv, or `uv python install 3.13`); it need not be the worker's own.",
        ) from error


def _build(home: Path, interpreter: Interpreter, progress: Callable[[str], None]) -> Path:
    discard(home)  # an interrupted installation
    home.mkdir(parents=True)
    progress(f"installing OpenHands {VERSION} for Python {interpreter.version}")
    with workshop(settings().cache, detect_sandbox(), interpreter) as shop:
        try:
            pinned = RequirementReader(ForeignTree(REQUIREMENTS.parent)).file(REQUIREMENTS.name)
            python = shop.make(home / "venv", shop.resolve(pinned, further=False))
        except EnvironmentFailed as error:
            raise EnvironmentFailed(
                f"OpenHands does not install: {error.message.removeprefix(DEPENDENCIES_FAILED)}",
                "Name the index this host should use (UV_DEFAULT_INDEX), and see that there is room on the disk.",
            ) from error
        shop.installer.compile(home / "venv")
        progress("trying it")
        probe = shop.installer.run(home / "venv", "-I", "-c", PROBE)
    if not probe.ok:
        raise EnvironmentFailed(f"OpenHands is installed, but does not start: {probe.stderr[-500:]}")
    return python


def _home() -> Path:
    """Changes with anything that is installed."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    return settings().cache / "engines" / f"{NAME}-{digest}"
