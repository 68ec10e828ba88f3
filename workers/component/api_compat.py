"""Whether a component's public API is what it was, told from its source alone; nothing of it is imported."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tta_tasks.protocols import Workspace

#: Seconds that comparing may take.
COMPARE_S = 60.0
#: Bytes of what is said of the difference.
SAID_BYTES = 1 << 20

_PROGRAM = Path(__file__).with_name("api_breakages.py")
_SENTENCES = TypeAdapter(tuple[str, ...])


def api_breakages(before: Workspace, after: Workspace) -> tuple[str, ...]:
    """What a user of the component would notice of the change from one tree to another.

    The sources are read in the sandbox, where they can neither hold up the worker nor fill its memory.

    Returns:
        One sentence for each breakage (``calculator.add(b): parameter default was changed``); empty when there is none.
        Trees that cannot be compared are a breakage, too.

    Raises:
        SandboxError: No command can be run.
    """
    packages = sorted({module.name.partition(".")[0] for module in after.component.modules})
    done = after.sandbox.run(
        [sys.executable, "-I", _PROGRAM, before.import_root, after.import_root, *packages],
        cwd=after.scratch,
        writable=[after.scratch],
        readable=[_PROGRAM, before.root, after.root],
        env={"PYTHONUTF8": "1"},
        limits=replace(after.limits, wall_s=min(COMPARE_S, after.limits.wall_s), output_bytes=SAID_BYTES),
        cancelled=after.cancelled,
    )
    try:
        return _SENTENCES.validate_json(done.stdout if done.ok else "")
    except ValidationError:
        why = (
            "it takes too long" if done.stopped else " ".join(done.stderr.split())[-200:] or f"status {done.returncode}"
        )
        return (f"it cannot be compared: {why}",)
