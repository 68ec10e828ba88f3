"""Copies of a checkout, for what runs code: the checkout itself stays as it was, whatever the code does."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tta_tasks.foreign import ForeignTree, discard
from tta_tasks.protocols import Workspace


@contextmanager
def fresh_copy(pristine: Workspace, changes: Mapping[str, bytes | None] | None = None) -> Iterator[Workspace]:
    """A copy as :func:`copied` makes it, gone at the end of the block."""
    work = copied(pristine, changes)
    try:
        yield work
    finally:
        discard(work.root.parent)


def copied(pristine: Workspace, changes: Mapping[str, bytes | None] | None = None) -> Workspace:
    """Copy a tree; the copy has a scratch folder of its own.

    What runs in it can write to no other copy, and not to ``pristine``.

    Args:
        pristine: A checkout where nothing foreign has run: decisions are made on it, and patches begin with it.
        changes: Content of files that differ, by path relative to the root; ``None``: it is not there.

    Raises:
        OSError: The disk is full, or a change leads through a link.
    """
    place = _folder(pristine) / uuid.uuid4().hex
    work = replace(pristine, root=place / "tree", scratch=place / "scratch")
    work.scratch.mkdir(parents=True)
    # It came from a snapshot, which is bounded.
    ForeignTree(pristine.root).copy_to(work.root, max_bytes=sys.maxsize, max_entries=sys.maxsize)
    tree = ForeignTree(work.root)
    for path, content in (changes or {}).items():
        if content is None:
            tree.remove(path)
        else:
            tree.write_bytes(path, content)
    return work


def _folder(pristine: Workspace) -> Path:
    """Where its copies are: out of sight of what runs in one of them."""
    return pristine.root.parent / "copies"
