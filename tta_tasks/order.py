"""What comes before what in a Celery canvas.

Celery itself would carry the rest of a canvas in the messages of what comes first, publish a chord's header one by one
from a worker, and count its parts in the result backend; a worker that is killed between a task's end and the next
publication loses the rest. The ledger counts instead, in the step that ends a task, so it needs the order alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery.canvas import Signature

from tta_tasks.errors import UsageError

#: The names of Celery's primitives, as their signatures are serialized.
CHAIN, GROUP, CHORD = "celery.chain", "celery.group", "celery.chord"


def predecessors(canvas: Signature[Any]) -> dict[str, tuple[str, ...]]:
    """For each task of ``canvas`` those that end before it begins.

    Args:
        canvas: Chains, groups and chords of signatures that have ids (``task_id``).

    Raises:
        UsageError: A signature has no id, or there is a primitive that is not known here.
    """
    found: dict[str, tuple[str, ...]] = {}
    _walk(canvas, (), found)
    return found


def _walk(part: Any, before: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> tuple[str, ...]:  # noqa: ANN401 - Celery's own
    """Enter ``part``, which begins when ``before`` have ended; answer what must end for it to have ended."""
    match part.task:
        case str(name) if name == CHAIN:
            for step in part.tasks:
                before = _walk(step, before, found)
            return before
        case str(name) if name == GROUP:
            return _together(part.tasks, before, found)
        case str(name) if name == CHORD:
            return _walk(part.body, _together(part.tasks, before, found), found)
    task_id = part.options.get("task_id")
    if task_id is None:
        raise UsageError(f"A signature of {part.task} has no id.", "Give it one: signature.set(task_id=...).")
    found[task_id] = before
    return (task_id,)


def _together(parts: Sequence[Any], before: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(last for part in parts for last in _walk(part, before, found))
