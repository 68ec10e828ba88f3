"""Records as they are stored: a hash of text fields, the request and the result as JSON."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from tta_tasks.errors import RecordUnreadable
from tta_tasks.models import AnyRequest, AnyResult, Decision, Promotion, Result, TaskRecord

REQUEST: Final[TypeAdapter[AnyRequest]] = TypeAdapter(AnyRequest)
RESULT: Final[TypeAdapter[AnyResult]] = TypeAdapter(AnyResult)


def entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:  # noqa: ANN401 - RESP2 and RESP3 nest differently
    """The entries of the one stream that was read."""
    if not answer:
        return []
    entries = next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1]
    nested = bool(entries) and isinstance(entries[0], list)
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", entries[0] if nested else entries)


def result_of(task_id: str, result: bytes | None) -> Result | None:
    """A stored result.

    Raises:
        RecordUnreadable: Another version wrote it.
    """
    try:
        return None if result is None else RESULT.validate_json(result)
    except ValidationError as error:
        raise unreadable(task_id, error) from error


def unreadable(task_id: str, error: Exception) -> RecordUnreadable:
    """The fault of a record that ``error`` came from."""
    return RecordUnreadable(
        f"The record of task {task_id} cannot be read here: {str(error).splitlines()[0]}.",
        "Another version wrote it: let all hosts have the same.",
    )


def from_hash(task_id: str, fields: dict[bytes, bytes]) -> TaskRecord:
    """A task from its stored fields.

    Raises:
        RecordUnreadable: Another version wrote them.
    """
    # What begins with an underscore is the scripts' own.
    mine = {name.decode(): value.decode() for name, value in fields.items() if not name.startswith(b"_")}
    values: dict[str, Any] = dict(mine)
    try:
        values["request"] = REQUEST.validate_json(values["request"])
        if "result" in values:
            values["result"] = RESULT.validate_json(values["result"])
        if "promotion" in values:
            values["promotion"] = Promotion.model_validate_json(values["promotion"])
        if "decision" in values:
            values["decision"] = Decision.model_validate_json(values["decision"])
        return TaskRecord.model_validate({"id": task_id, "run_id": None, **values})
    except (ValidationError, KeyError) as error:
        raise unreadable(task_id, error) from error
