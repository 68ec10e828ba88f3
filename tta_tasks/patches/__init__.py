"""Patches: how changes travel back from workers, and how they reach the repository they are for.

    a task's tree --diff--> patch --store--> apply (to another tree) | commit_branch | apply_to_worktree

All are unified diffs that ``git apply`` takes, relative to the snapshot's root. They change regular files only, never
symbolic links; a patch that would do anything else is refused before anything is touched.
"""

from __future__ import annotations

from tta_tasks.patches.repository import apply_to_worktree, check_branch, commit_branch
from tta_tasks.patches.tree import File, apply, between, diff, paths, present

__all__ = ["File", "apply", "apply_to_worktree", "between", "check_branch", "commit_branch", "diff", "paths", "present"]
