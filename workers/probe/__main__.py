"""``python -m tta_probe CONFIG``."""

from __future__ import annotations

import os
import sys

import pytest

from .config import ProbeConfig
from .event_log import EventLog
from .isolation import Isolation
from .measure import Focus, Measurement
from .mutation import MutationLoop
from .options import AbsorbOptions, calming_arguments
from .recorder import Recorder


def main(config_path: str) -> int:
    """Run pytest as asked for, and say how it went."""
    config = ProbeConfig.load(config_path)
    event_log = EventLog(config.event_log)
    # Before pytest: its plugins may import the component.
    measurement = Measurement(config.measure)
    if config.measure:
        measurement.start()
    status = _pytest(config, event_log, measurement) if config.args else 5
    if os.getpid() != event_log.owner:
        os._exit(status)  # a test's fork that was let run on
    if config.measure:
        measurement.stop()
        event_log.write("coverage", modules=measurement.report(contexts=config.contexts))
    event_log.write("finish", status=status)
    return 0


def _pytest(config: ProbeConfig, event_log: EventLog, measurement: Measurement) -> int:
    switch = measurement.switch if config.contexts else _nothing
    plugins: list[object] = [AbsorbOptions(), Recorder(event_log, config, switch)]
    if config.mode == "isolate":
        plugins.append(_isolation(config, event_log, measurement))
    elif config.mutation is not None:
        plugins.append(MutationLoop(event_log, config.mutation))
    return int(pytest.main([*calming_arguments(config.scratch), *config.args], plugins=plugins))


def _isolation(config: ProbeConfig, event_log: EventLog, measurement: Measurement) -> object:
    focus = Focus(config.focus, measurement.options)

    def imported() -> None:
        measurement.stop()
        event_log.write("imported", **focus.analyse(measurement.coverage))

    return Isolation(event_log, config, focus, imported)


def _nothing(_context: str) -> None:
    """Contexts are not wanted."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
