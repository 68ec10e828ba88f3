"""What a run leaves with the person (reports, patches, a branch, changes), and whether it can."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tta_tasks import patches
from tta_tasks.errors import UsageError


@dataclass(frozen=True)
class OutputOptions:
    """What the person asked for."""

    repository: Path
    #: Where reports and patches go; ``None``: ``.tta/runs/<id>``.
    folder: Path | None = None
    branch: str | None = None
    apply: bool = False


def check(output_options: OutputOptions) -> None:
    """See before the work begins that its results can be left as the options ask.

    Raises:
        UsageError: ``--branch`` outside a git repository, or a branch of that name exists; ``--output`` is no folder.
    """
    if output_options.branch is not None:
        patches.check_branch(output_options.repository, output_options.branch)
    folder = output_options.folder
    if folder is not None and folder.is_symlink():
        raise UsageError(
            f"{folder} is a link to {folder.readlink()}.", "Name that folder, or another one, with --output."
        )
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", "Name another one with --output.")
