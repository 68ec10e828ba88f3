"""Where in a tree the files are that commands name."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from tta_tasks.protocols import Workspace


def inside(workspace: Workspace, file: str) -> PurePosixPath | None:
    """Return a file's path relative to the tree's root, or ``None`` if it is not below it.

    Only the words decide; nothing in the tree is looked at.

    Args:
        workspace: The tree.
        file: As a command in the sandbox names it: absolute, or relative to the project folder.
    """
    words = Path(os.path.normpath(workspace.project / file))
    for root in (workspace.root, _as_the_kernel_names_it(workspace.root)):
        if words.is_relative_to(root) and words != root:
            return PurePosixPath(words.relative_to(root).as_posix())
    return None


@lru_cache(maxsize=64)
def _as_the_kernel_names_it(root: Path) -> Path:
    """The tree's folder without the links that lead to the folder around it, which is ours."""
    return root.parent.resolve() / root.name
