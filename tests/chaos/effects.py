"""What deeds do outside the ledger, which must not happen twice: releases by the real deployer, and patches."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from tests.chaos.journal import VARIABLE
from tta_tasks import patches, snapshot
from tta_tasks.ledger import Ledger
from tta_tasks.models import CollectionResult, Component, GenerationResult, Module, Status, TaskRecord
from tta_tasks.protocols import ReleaseRequest
from workers.deployers.local import LocalDeployer
from workers.sandbox import detect_sandbox, tempdirs
from workers.stages.context import Context

#: What is released: as little as installs.
WHEEL = "chaos_release-1-py3-none-any.whl"
_METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: chaos-release\nVersion: 1\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: chaos\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}


def arena() -> Path:
    """The folder of the session."""
    return Path(os.environ[VARIABLE]).parent


def make_wheel(folder: Path) -> None:
    """Make what is released."""
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("chaos_release.py", "")
        for name, text in _METADATA.items():
            wheel.writestr(f"chaos_release-1.dist-info/{name}", text)


def digest_of(task_id: str) -> str:
    """The release that a task makes: each its own."""
    return hashlib.sha256(task_id.encode()).hexdigest()


def release(task_id: str, component: str, environment: str, token: float) -> None:
    """Make the task's release current, by the deployer and fence that are in use everywhere.

    Raises:
        DeploymentFailed: One that was begun later came before.
    """
    LocalDeployer().release(
        ReleaseRequest(
            component=Component(name=component, modules=(Module(name="chaos_release", path="chaos_release.py"),)),
            environment=environment,
            digest=digest_of(task_id),
            artifact=arena() / WHEEL,
            sandbox=detect_sandbox(),
            target={"path": str(arena() / "sites"), "smoke": ("{python}", "-c", "import chaos_release")},
            token=token,
        )
    )


def contribute(task: TaskRecord, module: Module, attempt: int, ledger: Ledger) -> GenerationResult:
    """Leave a patch as a generation does; another one at each attempt, so that it can be told whose was taken."""
    context = Context(task, ledger)
    name = f"test_{module.name}.py"
    with tempdirs.create(context.settings.cache / "work") as folder:
        (before := folder / "before").mkdir()
        (after := folder / "after").mkdir()
        (after / name).write_text(f"# {task.id}, attempt {attempt}, process {os.getpid()}\n")
        patch = context.store.put(patches.diff(before, after))
    return GenerationResult(status=Status.COMPLETED, module=module, files=(name,), patch=patch)


def collect(task: TaskRecord, ledger: Ledger) -> CollectionResult:
    """Apply the patches that this task needs to an empty tree, and store it."""
    context = Context(task, ledger)
    with tempdirs.create(context.settings.cache / "work") as folder:
        (tree := folder / "tree").mkdir()
        for result in context.results(task.request.needs):
            if isinstance(result, GenerationResult) and result.patch:
                patches.apply(context.store.get(result.patch), tree)
        packed = snapshot.pack(tree, max_bytes=1 << 20, max_files=100)
        return CollectionResult(status=Status.COMPLETED, tree=context.store.put(packed.data))
