"""Tells what pytest does."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Generator
from typing import TypeVar

import pytest

from .channel import Channel
from .config import ProbeConfig

#: Characters of a failure's message that are kept: the end, where the reason is.
MESSAGE = 2000

_Item = TypeVar("_Item")


def shuffled(items: list[_Item], bucket: Callable[[_Item], str], seed: int) -> list[_Item]:
    """``items`` in random order, file after file: fixtures of a module are set up once."""
    chance = random.Random(seed)  # noqa: S311  # an order, not a secret
    files: dict[str, list[_Item]] = {}
    for item in items:
        files.setdefault(bucket(item), []).append(item)
    order = list(files.values())
    chance.shuffle(order)
    for file in order:
        chance.shuffle(file)
    return [item for file in order for item in file]


class Recorder:
    """Pytest plugin: one event for each thing worth knowing."""

    def __init__(self, channel: Channel, config: ProbeConfig, switch: Callable[[str], None]) -> None:
        self.channel = channel
        self.config = config
        self.switch = switch
        self.positions: dict[str, int] = {}
        #: Node id -> number of a collected test, by which it is called from then on.
        self.numbers: dict[str, int] = {}

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Which file is being imported."""
        if isinstance(collector, pytest.File):
            self.channel.write("collecting", id=collector.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be collected."""
        if report.failed:
            self.channel.write("collect-error", id=report.nodeid, message=report.longreprtext[-MESSAGE:])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What was asked for, in the order asked for."""
        self.positions = {item.nodeid: position for position, item in enumerate(items)}
        # Exact, unlike ``--deselect``, which takes prefixes.
        items[:] = [item for item in items if item.nodeid not in self.config.deselect]
        if self.config.seed is not None:
            items[:] = shuffled(items, lambda item: str(item.path), self.config.seed)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What was found."""
        for item in session.items:
            if item.nodeid in self.numbers:
                continue
            self.numbers[item.nodeid] = len(self.numbers)
            spec = getattr(item, "callspec", None)
            owner = getattr(item, "cls", None)
            self.channel.write(
                "collected",
                id=item.nodeid,
                position=self.positions.get(item.nodeid, -1),
                file=str(item.path),
                function=getattr(item, "originalname", None) or item.name,
                owner=owner.__name__ if owner else "",
                rows=dict(spec.indices) if spec else {},
            )

    def started(self, item: pytest.Item) -> None:
        """A test begins."""
        self.channel.write("start", test=self.numbers[item.nodeid])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, None]:
        """Which test is running."""
        self.started(item)
        self.switch(item.nodeid)
        yield
        self.switch("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """How it went."""
        if report.nodeid in self.numbers and (report.when == "call" or not report.passed):
            self.channel.write(
                "report",
                test=self.numbers[report.nodeid],
                when=report.when,
                outcome=report.outcome,
                message=report.longreprtext[-MESSAGE:] if report.failed else "",
                duration=report.duration,
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hypothesis has nothing to sum up where no test uses it, and would be imported, rewritten, to say so: 1 s."""
        plugin = session.config.pluginmanager.get_plugin("hypothesispytest")
        if plugin is not None and "hypothesis" not in sys.modules:
            session.config.pluginmanager.unregister(plugin)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Something ended the session."""
        self.channel.write("interrupted", message=f"{excinfo.typename}: {excinfo.value}".rstrip(": "))

    def pytest_internalerror(self, excrepr: object) -> None:
        """Pytest itself, or a plugin, broke."""
        self.channel.write("interrupted", message=f"pytest broke: {str(excrepr)[-MESSAGE:]}")
