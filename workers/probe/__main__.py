"""``python -m tta_probe CONFIG``."""

from __future__ import annotations

import os
import sys

import pytest

from .config import Config
from .isolation import Isolation
from .journal import Journal
from .measure import Focus, Measurement
from .mutation import MutationLoop
from .options import AbsorbOptions, calming_arguments
from .recorder import Recorder


def main(config_path: str) -> int:
    """Run pytest as asked for, and say how it went."""
    config = Config.load(config_path)
    journal = Journal(config.journal)
    # Before pytest: its plugins may import the component.
    measurement = Measurement(config.measure)
    if config.measure:
        measurement.start()
    status = _pytest(config, journal, measurement) if config.args else 5
    if os.getpid() != journal.owner:
        os._exit(status)  # a test's fork that was let run on
    if config.measure:
        measurement.stop()
        journal.write("coverage", modules=measurement.report(contexts=config.contexts))
    journal.write("finish", status=status)
    return 0


def _pytest(config: Config, journal: Journal, measurement: Measurement) -> int:
    switch = measurement.switch if config.contexts else _nothing
    plugins: list[object] = [AbsorbOptions(), Recorder(journal, config, switch)]
    if config.mode == "isolate":
        plugins.append(_isolation(config, journal, measurement))
    elif config.mutation is not None:
        plugins.append(MutationLoop(journal, config.mutation))
    return int(pytest.main([*calming_arguments(config.scratch), *config.args], plugins=plugins))


def _isolation(config: Config, journal: Journal, measurement: Measurement) -> object:
    focus = Focus(config.focus, measurement.options)

    def imported() -> None:
        measurement.stop()
        journal.write("imported", **focus.analyse(measurement.coverage))

    return Isolation(journal, config, focus, imported)


def _nothing(_context: str) -> None:
    """Contexts are not wanted."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
