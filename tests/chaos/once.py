"""Whether each effect happened once. Each check answers one sentence for each violation."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tests.chaos.effects import digest_of
from tta_tasks.models import CollectionResult, GenerationResult, Status, TaskRecord
from tta_tasks.protocols import ArtifactStore
from tta_tasks.snapshot import archive

#: What the fence says to an older release.
FENCED = "that was begun later has come before this one"


def superseded(task: TaskRecord, known: Mapping[str, TaskRecord]) -> bool:
    """Whether a release was turned away, as a newer one was there; or not begun, as the one before it was."""
    if task.status is Status.SKIPPED:
        return any(superseded(known[need], known) for need in task.request.needs)
    error = task.result.error if task.result else None
    return task.status is Status.FAILED and error is not None and FENCED in error.message


def released_once(tasks: Iterable[TaskRecord], seen: Mapping[Path, Sequence[str]]) -> Iterator[str]:
    """No release was made current twice or after a newer one, and each that was reported as completed was.

    Args:
        tasks: The deployments.
        seen: Store -> the releases its link was given, in this order; empty for one that was not recognised.
    """
    of = {digest_of(task.id): task for task in tasks}
    switched = Counter(digest for digests in seen.values() for digest in digests if digest)
    yield from (f"{of[digest].id} was made current {count} times" for digest, count in switched.items() if count > 1)
    for site, digests in seen.items():
        begun = [of[digest].started_at or 0.0 for digest in digests if digest]
        yield from (f"{site}: an older release replaced a newer one" for one, two in pairwise(begun) if one > two)
    unrecognised = sum(digests.count("") for digests in seen.values())
    missing = [task.id for digest, task in of.items() if task.status is Status.COMPLETED and not switched[digest]]
    if len(missing) > unrecognised:
        yield f"completed, but never made current: {', '.join(missing)}"


def patched_once(tasks: Iterable[TaskRecord], store: ArtifactStore) -> Iterator[str]:
    """Each collected tree holds what the generations it needs ended with, each once, and nothing else."""
    known = {task.id: task for task in tasks}
    for task in known.values():
        if isinstance(task.result, CollectionResult) and task.result.tree:
            needs = [known[need].result for need in task.request.needs]
            patches = {
                result.files[0]: store.get(result.patch)
                for result in needs
                if isinstance(result, GenerationResult) and result.patch
            }
            yield from _differences(task.id, _unpacked(store.get(task.result.tree)), patches)


def _differences(task_id: str, files: Mapping[str, bytes], patches: Mapping[str, bytes]) -> Iterator[str]:
    if files.keys() != patches.keys():
        yield f"the tree of {task_id} holds {sorted(files)}, not {sorted(patches)}"
    for name in files.keys() & patches.keys():
        added = b"".join(line[1:] for line in patches[name].splitlines(keepends=True) if line.startswith(b"+#"))
        if files[name] != added:
            yield f"the tree of {task_id} has another {name} than its task ended with: {files[name]!r}, {added!r}"


def _unpacked(data: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        archive.unpack(data, tree, max_bytes=1 << 20, max_files=100)
        return {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
