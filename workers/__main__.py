"""``python -m workers``: the worker of ``tta worker`` and of the local stack.

The same as ``celery -A workers worker``, without the other commands that ``celery`` loads first: they take longer than
all that a worker needs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from tta_tasks.queues import BY_URGENCY
from workers.celery import app


def main(arguments: Sequence[str]) -> int:
    """Work until told to end; answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Start a worker.")
    parser.add_argument("--hostname", help="Its node's name.")
    parser.add_argument("--queues", default=",".join(BY_URGENCY), help="Apart by commas, the most urgent first.")
    parser.add_argument("--concurrency", type=int, default=1, help="Tasks at once.")
    parser.add_argument("--loglevel", type=str.upper, choices=[*logging.getLevelNamesMapping()], default="INFO")
    parser.add_argument("--task-events", action="store_true", help="Tell events from the start.")
    options = parser.parse_args(arguments)
    sys.argv = ["-P", "-m", "workers", *arguments]  # what Celery starts again on SIGHUP
    worker = app.Worker(
        hostname=options.hostname,
        queues=options.queues,
        concurrency=options.concurrency,
        loglevel=options.loglevel,
        task_events=options.task_events or None,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return worker.exitcode or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
