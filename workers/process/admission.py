"""A worker that is at work takes nothing more while its host is short of memory.

Better that a task waits a minute in its queue, where another host can take it, than that this one swaps, and everything
on it with that. A worker that does nothing takes one task all the same: where memory is short for good, work goes on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import psutil
from celery import bootsteps

from tta_tasks.settings import settings

log = logging.getLogger(__name__)

#: Seconds between looks.
EVERY_S: Final = 1.0
CGROUPS: Final = Path("/sys/fs/cgroup")


class Admission(bootsteps.StartStopStep):
    """Consumer step: lets the worker have one message at a time while memory is short. On Redis only."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        self._short = False

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        """Begin to look."""
        self._short = False
        if settings().transport == "redis":
            self._timer = consumer.timer.call_repeatedly(EVERY_S, self._look, (consumer,))

    def stop(self, consumer: Any) -> None:  # noqa: ANN401, ARG002 - Celery's own
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's own
        free, wanted = free_bytes(), settings().min_free_bytes
        if self._short != (free < wanted):
            self._short = not self._short
            what = "takes one task at a time" if self._short else "takes tasks as before"
            log.warning("%d MiB of memory are free, TTA_MIN_FREE_BYTES is %d MiB: %s.", free >> 20, wanted >> 20, what)
        consumer.task_consumer.qos(prefetch_count=1 if self._short else consumer.qos.value)


def free_bytes() -> int:
    """What this host, or the control group of this process where that has a limit, can still give without swapping."""
    free = int(psutil.virtual_memory().available)
    try:
        group = CGROUPS / Path("/proc/self/cgroup").read_text(encoding="ascii").rpartition("::")[2].strip().lstrip("/")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        facts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return free  # no Linux, or an older kind of groups
    if limit == "max":
        return free
    # Pages of files that are not in use go first, and cost nothing.
    return min(free, int(limit) - used + int(facts.get("inactive_file", 0)))
