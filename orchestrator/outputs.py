"""What a run leaves with the person: reports and patches in a folder, a branch, or changes in the working tree."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.output_options import OutputOptions
from orchestrator.report import Report, build_report, write_reports
from tta_tasks import patches
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import CollectionResult, RunRecord, Status
from tta_tasks.protocols import ArtifactStore
from tta_tasks.settings import settings

TESTS = "tests.patch"
REFACTORING = "refactoring.patch"


@dataclass(frozen=True)
class Outputs:
    """What was written."""

    report: Report
    #: What it is -> where it is.
    paths: Mapping[str, Path | str]


def write(record: RunRecord, store: ArtifactStore, output_options: OutputOptions) -> Outputs:
    """Write reports and patches, and leave the changes where the options ask for them.

    Only a collection that held is committed or applied.

    Raises:
        PatchError: The patches do not apply to the repository as it is now.
        ArtifactMissing: A patch has expired.
        OSError: The folder cannot be written.
    """
    report = build_report(record)
    folder = output_options.folder or _folder(record.plan.id)
    paths: dict[str, Path | str] = dict(write_reports(report, record, folder))
    found: list[tuple[bytes, str]] = []
    result = next((task.result for task in record.tasks if isinstance(task.result, CollectionResult)), None)
    if result is not None:
        for name, digest, message in (
            (TESTS, result.tests_patch, f"Test {record.plan.component.name}: {record.plan.title}"),
            (REFACTORING, result.refactoring_patch, f"Refactor {record.plan.component.name}"),
        ):
            if digest is not None:
                data = store.get(digest)
                paths[name] = folder / name
                ForeignTree(folder).write_bytes(name, data)
                found.append((data, message))
        if result.status is Status.COMPLETED and found:
            paths.update(_leave(found, record, output_options))
    return Outputs(report, paths)


def _leave(found: list[tuple[bytes, str]], record: RunRecord, output_options: OutputOptions) -> dict[str, str]:
    left: dict[str, str] = {}
    if output_options.branch is not None:
        commit = patches.commit_branch(output_options.repository, record.plan.commit, output_options.branch, found)
        left["branch"] = f"{output_options.branch} ({commit[:10]})"
    if output_options.apply:
        patches.apply_to_worktree(output_options.repository, [data for data, _ in found])
        left["applied to"] = str(output_options.repository.absolute())
    return left


def _folder(run_id: str) -> Path:
    runs = settings().state / "runs"
    runs.mkdir(exist_ok=True)
    earlier = sorted((path for path in runs.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in earlier[: -settings().max_runs + 1] if settings().max_runs > 1 else earlier:
        shutil.rmtree(path, ignore_errors=True)
    folder = runs / run_id
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        latest = runs / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(run_id)
    return folder
