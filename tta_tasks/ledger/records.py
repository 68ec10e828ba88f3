"""Records as they are stored: a hash of text fields, the request and the result as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from tta_tasks.errors import RecordUnreadable
from tta_tasks.models import RECORD_VERSION, AnyRequest, AnyResult, Decision, Promotion, Result, TaskRecord

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
    with readable(f"task {task_id}"):
        return None if result is None else RESULT.validate_json(result, extra="ignore")


def from_hash(task_id: str, fields: dict[bytes, bytes]) -> TaskRecord:
    """A task from its stored fields.

    Raises:
        RecordUnreadable: Another version wrote them.
    """
    with readable(f"task {task_id}"):
        # What begins with an underscore is the scripts' own.
        mine = {name.decode(): value.decode() for name, value in fields.items() if not name.startswith(b"_")}
        values: dict[str, Any] = {"id": task_id, "run_id": None, **mine}
        for name, read in _NESTED.items():
            if name in values:
                values[name] = read(values[name])
        return TaskRecord.model_validate(values, extra="ignore")


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Translate the fault of a record that this version cannot read.

    Args:
        what: Whose record it is: ``task 1234``.

    Raises:
        RecordUnreadable: Another version wrote it.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        hint = "It is damaged, or another version of tta-tasks wrote it."
        if first["loc"][-1:] == ("version",):
            why = f"it has version {first['input']}, and the newest that is read here is {RECORD_VERSION}"
            hint = "A newer version of tta-tasks wrote it; upgrade this host."
        raise RecordUnreadable(f"The record of {what} cannot be read here: {why}.", hint) from error
    except UnicodeDecodeError as error:
        raise RecordUnreadable(
            f"The record of {what} cannot be read here: it is not UTF-8.", "It is damaged."
        ) from error


#: Fields of a task that are JSON.
_NESTED: Final[dict[str, Callable[[str], Any]]] = {
    "request": partial(REQUEST.validate_json, extra="ignore"),
    "result": partial(RESULT.validate_json, extra="ignore"),
    "promotion": Promotion.from_stored,
    "decision": Decision.from_stored,
}
