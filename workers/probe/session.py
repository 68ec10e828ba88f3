"""One session of pytest, measured."""

from __future__ import annotations

import os
import sys

import pytest

from .channel import Channel
from .config import ProbeConfig
from .counting import StatementCount
from .isolation import Isolation
from .measure import Focus, Measurement
from .mutation import MutationLoop
from .options import AbsorbOptions, calming_arguments
from .recorder import Recorder

#: Taken before foreign code runs, which may put something else in its place.
_exit = os._exit


def run(config: ProbeConfig, channel: Channel, count: StatementCount) -> None:
    """Run it, tell what happened, and end the process: what tests leave for its exit is not waited for."""
    # Before pytest: its plugins may import the component.
    measurement = Measurement(config.measure)
    if config.measure:
        measurement.start()
    recorder = Recorder(channel, config, measurement.switch if config.contexts else _nothing)
    status = _pytest(config, channel, measurement, recorder) if config.args else 5
    if os.getpid() != channel.owner:
        _exit(status)  # a test's fork that was let run on
    if config.measure:
        measurement.stop()
        for event, fields in measurement.report(recorder.numbers if config.contexts else None):
            channel.write(event, **fields)
    for path, lines in count.unseen():
        channel.write("counted", path=path, unseen=lines)
    channel.write("finish", status=status)
    _flush()
    _exit(0)


def _pytest(config: ProbeConfig, channel: Channel, measurement: Measurement, recorder: Recorder) -> int:
    plugins: list[object] = [AbsorbOptions(), recorder]
    if config.mode == "isolate":
        plugins.append(_isolation(config, channel, measurement, recorder))
    elif config.mutation is not None:
        plugins.append(MutationLoop(channel, config.mutation, recorder))
    return int(pytest.main([*calming_arguments(config.scratch), *config.args], plugins=plugins))


def _isolation(config: ProbeConfig, channel: Channel, measurement: Measurement, recorder: Recorder) -> object:
    focus = Focus(config.focus, measurement.options)

    def imported() -> None:
        measurement.stop()
        channel.write("imported", **focus.analyse(measurement.coverage))

    return Isolation(channel, config, focus, recorder, imported)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or put away, by a test
            continue


def _nothing(_context: str) -> None:
    """Contexts are not wanted."""
