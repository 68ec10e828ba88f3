"""What this host can do as a worker, for ``tta doctor``."""

from __future__ import annotations

import platform
import shutil

from tta_tasks import plugins
from tta_tasks.errors import TtaError
from tta_tasks.models import Check
from workers.sandbox import detect_sandbox


def diagnose() -> tuple[Check, ...]:
    """One check a thing a worker needs or can use; the entry point ``diagnose`` of ``tta_tasks.worker``."""
    git = shutil.which("git")
    return (
        Check(name="python", ok=True, detail=platform.python_version()),
        Check(name="git", ok=git is not None, detail=git or "not on PATH: install git"),
        _sandbox(),
        *(_engine(group, name) for group in (plugins.GENERATORS, plugins.REFACTORERS) for name in plugins.names(group)),
    )


def _sandbox() -> Check:
    try:
        sandbox = detect_sandbox()
    except TtaError as error:
        return Check(name="sandbox", ok=False, detail=str(error))
    return Check(name="sandbox", ok=sandbox.level != "process-group", detail=sandbox.describe().replace("\n", " "))


def _engine(group: str, name: str) -> Check:
    kind = {plugins.GENERATORS: "generator", plugins.REFACTORERS: "refactorer"}[group]
    try:
        why_not = plugins.load(group, name)().available()
    except TtaError as error:
        why_not = str(error)
    return Check(name=f"{kind} {name}", ok=not why_not, detail=why_not or "available")
