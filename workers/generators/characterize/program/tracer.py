"""Which lines and jumps of one file a call runs through."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any, Protocol


class Tracer(Protocol):
    """Records features (opaque, comparable across calls of one process) between ``start`` and ``stop``."""

    #: What was seen since ``start``.
    seen: set[tuple[int, int]]

    def start(self) -> None:
        """Forget what was seen, and begin."""

    def clear(self) -> None:
        """Forget what was seen so far, and go on."""

    def stop(self) -> None:
        """End."""


class SettraceTracer:
    """``sys.settrace``: jumps between lines, for Python before 3.12."""

    def __init__(self, file: str) -> None:
        self.seen: set[tuple[int, int]] = set()
        self._file = file

    def start(self) -> None:
        """Forget what was seen, and begin."""
        self.seen = set()
        sys.settrace(self._enter)

    def clear(self) -> None:
        """Forget what was seen so far, and go on."""
        self.seen = set()

    def stop(self) -> None:
        """End."""
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        if code.co_filename != self._file:
            return None
        first = code.co_firstlineno
        last, raising = -first, False
        add = self.seen.add

        def inside(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal last, raising
            if event == "line":
                line = frame.f_lineno
                add((last, line))
                last, raising = line, False
            elif event == "exception":
                raising = True
            elif event == "return" and not raising:
                add((last, -first))
            return inside

        return inside


class MonitoringTracer:
    """``sys.monitoring``: lines and branches of the module's code objects alone; the rest runs at full speed."""

    def __init__(self, codes: Iterable[CodeType]) -> None:
        self.seen: set[tuple[int, int]] = set()
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self._tool = next(tool for tool in (3, 4, 2, 5) if self._monitoring.get_tool(tool) is None)
        self._monitoring.use_tool_id(self._tool, "characterize")
        events = self._monitoring.events
        self._events = events.LINE | events.BRANCH
        # Code objects that are equal would share a set: they are told apart by where they start.
        self._codes = list(codes)
        self._monitoring.register_callback(self._tool, events.LINE, self._line)
        self._monitoring.register_callback(self._tool, events.BRANCH, self._branch)

        for code in self._codes:
            self._monitoring.set_local_events(self._tool, code, self._events)

    def start(self) -> None:
        """Forget what was seen, and begin."""
        self.seen = set()

    clear = start

    def stop(self) -> None:
        """End. The events stay switched on: switching them would cost more than they do."""
        self.seen = set(self.seen)

    def _line(self, _code: CodeType, line: int) -> None:
        self.seen.add((0, line))

    def _branch(self, code: CodeType, start: int, target: int) -> None:
        self.seen.add((code.co_firstlineno << 16 | start, -target))


def lines_of(features: Iterable[tuple[int, int]]) -> set[int]:
    """The lines among features."""
    return {line for _, line in features if line > 0}


def all_codes(code: CodeType) -> list[CodeType]:
    """A code object and all those inside it."""
    inner = [item for const in code.co_consts if isinstance(const, CodeType) for item in all_codes(const)]
    return [code, *inner]


def tracer_for(file: str, codes: Iterable[CodeType]) -> Tracer:
    """The fastest tracer this interpreter has."""
    return MonitoringTracer(codes) if hasattr(sys, "monitoring") else SettraceTracer(file)
