"""The shapes of what the probe tells: one line each, ``KIND JSON``, and what becomes of lines of another shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "Broken",
    "CollectError",
    "Collected",
    "Collecting",
    "Context",
    "Counted",
    "Ended",
    "Event",
    "Executed",
    "Exit",
    "Finish",
    "Imported",
    "Interrupted",
    "Left",
    "Measured",
    "Mutant",
    "Report",
    "Start",
    "Untold",
    "events",
]

_Number = Annotated[int, Field(ge=0, lt=10**9)]
#: Negative: the exit of a code object that begins there.
_Place = Annotated[int, Field(gt=-(10**9), lt=10**9)]
_Seconds = Annotated[float, Field(ge=0, lt=10**9, allow_inf_nan=False)]
_Lines = tuple[_Place, ...]
_Branches = tuple[tuple[_Place, _Place], ...]


class Untold(ValueError):
    """A line is of a shape that the probe does not tell."""


class Event(BaseModel):
    """Base of all events."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Collecting(Event):
    """A file is being imported."""

    id: str


class CollectError(Event):
    """A file cannot be collected."""

    id: str
    message: str


class Collected(Event):
    """A test; its number is how many were told before it."""

    id: str
    position: Annotated[int, Field(ge=-1, lt=10**9)]
    file: str
    function: str
    owner: str
    rows: dict[str, _Number]


class Start(Event):
    """A test begins."""

    test: _Number


class Report(Event):
    """A part of a test is over."""

    test: _Number
    when: str
    outcome: str
    message: str
    duration: _Seconds


class Ended(Event):
    """A test took its process down, or was ended."""

    test: _Number
    outcome: Literal["hangs", "crashes"]
    message: str


class Left(Event):
    """A test did not put something back."""

    test: _Number
    kind: str
    what: str


class Imported(Event):
    """What importing the tests executes of the module in focus."""

    lines: _Lines
    branches: _Branches


class Executed(Imported):
    """What a test executes of it."""

    test: _Number


class Mutant(Event):
    """A mutant that tests were run against; the numbers of those that noticed."""

    line: _Number
    operator: str
    killers: tuple[_Number, ...]


class Interrupted(Event):
    """Something ended the session."""

    message: str


class Measured(Event):
    """A module's figures, as coverage.py has them."""

    path: str
    covered: _Lines
    missing: _Lines
    branches: _Number
    covered_branches: _Branches
    missing_branches: _Branches


class Broken(Event):
    """A module that does not parse, and how many lines it has."""

    path: str
    lines: _Number


class Context(Event):
    """Lines of a module that a test executes."""

    path: str
    test: _Number
    lines: _Lines


class Counted(Event):
    """Lines of a module that the second count has not seen executed; ``None`` where it knows nothing of it."""

    path: str
    unseen: _Lines | None


class Finish(Event):
    """The session is over, with pytest's exit status."""

    status: Annotated[int, Field(ge=0, lt=256)]


class Exit(Event):
    """The referee's word: the process's exit status, negative a signal, and the rule that it broke."""

    status: Annotated[int, Field(gt=-256, lt=256)]
    refused: str


_KINDS: dict[str, type[Event]] = {
    "collecting": Collecting,
    "collect-error": CollectError,
    "collected": Collected,
    "start": Start,
    "report": Report,
    "ended": Ended,
    "left": Left,
    "executed": Executed,
    "imported": Imported,
    "mutant": Mutant,
    "interrupted": Interrupted,
    "module": Measured,
    "broken": Broken,
    "context": Context,
    "counted": Counted,
    "finish": Finish,
    "exit": Exit,
}


def events(told: str) -> Iterator[Event]:
    """The events in what the probe printed; a last line that was cut off is none.

    Raises:
        Untold: A line is of another shape. What came before it has been yielded.
    """
    position = 0
    while (end := told.find("\n", position)) >= 0:
        kind, _, fields = told[position:end].partition(" ")
        position = end + 1
        if kind not in _KINDS:
            raise Untold("an event of no kind that it has")
        try:
            yield _KINDS[kind].model_validate_json(fields)
        except ValidationError as error:
            raise Untold(f"'{kind}' of another shape ({error.errors()[0]['msg']})") from error
