"""A control group for each command, where this host gives one away: bounds on all its memory and processes together.

Only a group that was delegated to us is divided, as systemd marks it (``Delegate=yes`` with ``DelegateSubgroup=``, so
that our own processes are below it). Elsewhere there is none, and a command is bounded without. Version 2 only.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tta_tasks.protocols import Limits

#: What systemd puts on a group that is ours to divide.
MARKS = ("user.delegate", "trusted.delegate")
PREFIX = "tta-command-"
#: Processes of the launcher's own.
RESERVED = 8
#: Longest wait, in seconds, for killed processes to vanish.
ENDING_S = 5.0


@dataclass(frozen=True)
class Group:
    """The control group of one command."""

    path: Path
    #: What a process writes to, to be in it.
    entry: int


@contextlib.contextmanager
def command_group(limits: Limits) -> Iterator[Group | None]:
    """A group for the length of the block, with nothing in it at the end; ``None`` where this host gives none."""
    parent = delegated()
    if parent is None:
        yield None
        return
    with below(parent, limits) as group:
        yield group


@contextlib.contextmanager
def below(parent: Path, limits: Limits) -> Iterator[Group]:
    """A group below ``parent``, as :func:`command_group`."""
    path = parent / f"{PREFIX}{uuid.uuid4().hex}"
    path.mkdir()
    try:
        for name, value in {
            "memory.max": limits.memory_bytes,
            "memory.swap.max": 0,
            "memory.oom.group": 1,
            "pids.max": limits.processes + RESERVED,
        }.items():
            if (path / name).exists():
                (path / name).write_text(str(value))
        entry = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield Group(path, entry)
        finally:
            os.close(entry)
    finally:
        _remove(path)


@cache
def delegated() -> Path | None:
    """The group that is ours to divide, ready for that; ``None`` where there is none."""
    with contextlib.suppress(OSError, ValueError):
        own = _own()
        if own is not None and any(_marked(own.parent, mark) for mark in MARKS):
            for controller in ("+memory", "+pids"):
                with contextlib.suppress(OSError):  # not delegated to us
                    (own.parent / "cgroup.subtree_control").write_text(controller)
            for left in own.parent.glob(f"{PREFIX}*"):  # of workers that were killed
                with contextlib.suppress(OSError):
                    left.rmdir()
            return own.parent if os.access(own.parent, os.W_OK) else None
    return None


def _own() -> Path | None:
    """The group of this process, as a folder."""
    (place,) = (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, *_ = before.split()
        if after.startswith("cgroup2 ") and Path(place).is_relative_to(root):
            return Path(point) / Path(place).relative_to(root)
    return None


def _marked(path: Path, mark: str) -> bool:
    try:
        return os.getxattr(path, mark) == b"1"
    except (OSError, AttributeError):  # the latter on macOS
        return False


def _remove(path: Path) -> None:
    deadline = time.monotonic() + ENDING_S
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    while time.monotonic() < deadline:
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.01)
        else:
            return
