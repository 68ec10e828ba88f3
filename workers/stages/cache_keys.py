"""What each kind of work depends on, and so when an earlier result answers for it.

The suite, the refactoring and the collection look at the whole tree: its digest decides. Generation looks at one
module: what that imports from the tree, the tests that are about it, and what its environment is made of; so editing
one module has one module's tests generated again. A deployment has effects, and is never answered from a cache
(``cached`` in :mod:`tta_tasks.kinds`).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tta_tasks import plugins
from tta_tasks.cache import content_key
from tta_tasks.foreign import ForeignTree
from tta_tasks.kinds import kind_of
from tta_tasks.models import (
    CollectionRequest,
    GenerationRequest,
    RefactoringRequest,
    Request,
    TaskRecord,
)
from tta_tasks.stores.signing import Signer
from workers.component.imports import import_closure, importers
from workers.stages.context import Context

#: Files of a project that decide on its environment, or on how its tests run.
CONFIGURATION = ("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "pytest.ini", "requirements*.txt", "uv.lock")


def key_of(task: TaskRecord, context: Context) -> str | None:
    """The content key of a task, or ``None`` when it must be done anew each time."""
    request = task.request
    if not kind_of(request).cached:
        return None
    fields = request.model_dump(mode="json", exclude={"run_id", "needs"})
    if isinstance(request, GenerationRequest):
        tree = context.snapshots.tree(request.snapshot)
        inputs = list(_inputs(ForeignTree(tree), request))
        if not _has_links(ForeignTree(tree)):
            del fields["snapshot"]
    else:
        tree, inputs = Path(), []
    if isinstance(request, CollectionRequest):
        fields["contributions"] = [
            result.model_dump(mode="json").get("patch") for result in context.results(request.needs)
        ]
    # What somebody without the key has stored, or could have made up, must not answer.
    signer = Signer(context.settings.signing_keys).name
    return content_key(
        stage=request.kind, version=f"{_version(request)} {signer}", request=fields, inputs=inputs, root=tree
    )


def _inputs(tree: ForeignTree, request: GenerationRequest) -> Iterator[Path]:
    project = tree.root / request.component.root
    root, module = project / request.component.import_root, project / request.module.path
    yield from import_closure(tree, module, root)
    yield from importers(tree, project / request.component.tests, {module}, root)
    for pattern in CONFIGURATION:
        yield from project.glob(pattern)


def _has_links(tree: ForeignTree) -> bool:
    """Whether there are symbolic links: imports are not followed through them, so that the whole tree decides."""
    return any(found.link for found in tree.walk(max_entries=sys.maxsize))  # a snapshot is bounded


def _version(request: Request) -> str:
    """What of this host and its engines matters."""
    here = f"{version('tta-tasks')} {platform.python_version()} {platform.machine()}"
    if isinstance(request, GenerationRequest):
        return f"{here} {_engines(plugins.GENERATORS, request.engine)}"
    if isinstance(request, RefactoringRequest):
        return f"{here} {_engines(plugins.REFACTORERS, request.engine)}"
    if isinstance(request, CollectionRequest):
        return " ".join(
            [here, *(f"{name}@{plugins.release(plugins.GATES, name)}" for name in plugins.names(plugins.GATES))]
        )
    return here


def _engines(group: str, wanted: str) -> str:
    names = plugins.names(group) if wanted == "auto" else (wanted,)
    return " ".join(f"{name}={plugins.load(group, name)().version}@{plugins.release(group, name)}" for name in names)
