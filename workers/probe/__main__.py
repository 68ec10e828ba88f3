"""``python -m <this folder> CONFIG DESCRIPTOR``: the measured process, started by the referee."""

from __future__ import annotations

import sys

from .channel import Channel
from .config import ProbeConfig
from .counting import StatementCount


def main(config_path: str, descriptor: str) -> None:
    """Run pytest as asked for, and tell how it went."""
    config = ProbeConfig.load(config_path)
    channel = Channel(int(descriptor))
    count = StatementCount(config.measure if config.counted else {})
    count.begin()
    from .session import run  # noqa: PLC0415  # pytest, which may load the component

    run(config, channel, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
