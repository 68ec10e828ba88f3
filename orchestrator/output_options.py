"""What a person wants left of a run, and whether it can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tta_tasks import patches
from tta_tasks.errors import UsageError


@dataclass(frozen=True)
class Wanted:
    """What the person asked for."""

    repository: Path
    #: Where reports and patches go; ``None``: ``.tta/runs/<id>``.
    folder: Path | None = None
    branch: str | None = None
    apply: bool = False


def check(wanted: Wanted) -> None:
    """See before the work begins that its results can be left as wanted.

    Raises:
        UsageError: ``--branch`` outside a git repository, or a branch of that name exists.
    """
    if wanted.branch is not None:
        patches.check_branch(wanted.repository, wanted.branch)
    if wanted.folder is not None and wanted.folder.exists() and not wanted.folder.is_dir():
        raise UsageError(f"{wanted.folder} is not a folder.", "Name another one with --output.")
