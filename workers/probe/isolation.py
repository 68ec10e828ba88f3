"""Each test alone: in a fork of the process that collected them all."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable

import pytest

from .channel import Channel
from .config import ProbeConfig
from .forks import adopt_orphans, fork
from .leaks import ProcessState
from .measure import Focus
from .recorder import Recorder

#: What the fork of a test may tell.
_OF_A_FORK = {b"start", b"report", b"left", b"executed"}


class Isolation:
    """Pytest plugin: runs each collected test in its own fork, sees what it leaves and what it executes."""

    def __init__(
        self, channel: Channel, config: ProbeConfig, focus: Focus, recorder: Recorder, before: Callable[[], None]
    ) -> None:
        self.channel = channel
        self.recorder = recorder
        self.config = config
        self.focus = focus
        self.before = before
        self.watch = [*config.watch, tempfile.gettempdir()]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replaces pytest's own loop."""
        self.before()
        adopt_orphans()
        gc.freeze()  # what is there now is not looked at again in the forks
        for item in session.items:
            self._judge(item)
        return True

    def _judge(self, item: pytest.Item) -> None:
        self.recorder.started(item)
        number = self.recorder.numbers[item.nodeid]
        ending = fork(lambda send: self._run(item, send), self.config.case_timeout_s)
        if ending.how == "timeout":
            self.channel.write("ended", test=number, outcome="hangs", message=self._too_long())
        elif ending.how != "done":
            self.channel.write("ended", test=number, outcome="crashes", message=f"ended with {ending.how}")
        elif not all(_of(number, line) for line in ending.sent.splitlines(keepends=True)):
            self.channel.write("ended", test=number, outcome="crashes", message="told what no test tells")
        else:
            self.channel.forward(ending.sent)
        if ending.processes_left:
            self.channel.write("left", test=number, kind="process", what="a process that still ran")

    def _state(self) -> ProcessState:
        return ProcessState(self.watch, [self.config.scratch], self.config.modules)

    def _too_long(self) -> str:
        return f"did not end within {self.config.case_timeout_s:g} s"

    def _run(self, item: pytest.Item, send: Callable[[bytes], None]) -> None:
        self.channel.redirect(send)
        number = self.recorder.numbers[item.nodeid]
        before = self._state()
        measurement = self.focus.begin()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        executed = self.focus.executed(measurement)
        for kind, what in before.left_by(self._state()):
            self.channel.write("left", test=number, kind=kind, what=what)
        self.channel.write("executed", test=number, **executed)


def _of(number: int, line: bytes) -> bool:
    """Whether a line is what the fork of a test may tell, of no other test."""
    kind, _, fields = line.partition(b" ")
    try:
        return kind in _OF_A_FORK and line.endswith(b"\n") and json.loads(fields)["test"] == number
    except (ValueError, TypeError, LookupError, RecursionError):
        return False
