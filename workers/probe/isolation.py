"""Each test alone: in a fork of the process that collected them all."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable

import pytest

from .config import ProbeConfig
from .event_log import EventLog
from .forks import adopt_orphans, fork
from .leaks import ProcessState
from .measure import Focus


class Isolation:
    """Pytest plugin: runs each collected test in its own fork, sees what it leaves and what it executes."""

    def __init__(self, event_log: EventLog, config: ProbeConfig, focus: Focus, before: Callable[[], None]) -> None:
        self.event_log = event_log
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
        ending = fork(lambda _send: self._run(item), self.config.case_timeout_s)
        if ending.how == "timeout":
            self.event_log.write("ended", id=item.nodeid, outcome="hangs", message=self._too_long())
        elif ending.how != "done":
            self.event_log.write("ended", id=item.nodeid, outcome="crashes", message=f"ended with {ending.how}")
        if ending.processes_left:
            self.event_log.write("left", id=item.nodeid, kind="process", what="a process that still ran")

    def _state(self) -> ProcessState:
        return ProcessState(self.watch, [self.config.scratch], self.config.modules)

    def _too_long(self) -> str:
        return f"did not end within {self.config.case_timeout_s:g} s"

    def _run(self, item: pytest.Item) -> None:
        self.event_log.adopt()
        before = self._state()
        measurement = self.focus.begin()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        executed = self.focus.executed(measurement)
        for kind, what in before.left_by(self._state()):
            self.event_log.write("left", id=item.nodeid, kind=kind, what=what)
        self.event_log.write("executed", id=item.nodeid, **executed)
