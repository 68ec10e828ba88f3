"""A worker takes no more than its host can bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.fleet.test_client import request
from tta_tasks.models import Status
from workers.process.admission import free_bytes

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


def test_short_of_memory_a_worker_does_one_task_at_a_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """With two slots and less memory free than wanted the second task waits in its queue until the first has ended."""
    monkeypatch.setenv("TTA_MIN_FREE_BYTES", str(1 << 60))
    fleet.start(slots=2)
    log = fleet.folder / "worker-0.log"
    eventually(lambda: "takes one task at a time" in log.read_text())
    first, second = fleet.client.submit_many([request("one_waits"), request("two_waits")])
    eventually(lambda: fleet.client.status(first).status is Status.RUNNING)
    assert fleet.waiting("openhands") == 1
    fleet.client.cancel(first)
    eventually(lambda: fleet.client.status(second).status is Status.RUNNING)
    fleet.client.cancel(second)


def test_free_memory_is_a_number_of_bytes() -> None:
    """Between nothing and what any host has."""
    assert 0 < free_bytes() < 1 << 50
