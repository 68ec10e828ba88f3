"""What Redis holds after many runs of real workers, with what they leave: it levels off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis

from tests.fleet.scripted.scripted import ARTIFACT_BYTES
from tta_tasks.client import TaskClient
from tta_tasks.models import Target
from tta_tasks.settings import settings

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]

RUNS, AT_ONCE = 2000, 40
#: Limits of this installation.
MAX_RUNS, MAX_ARTIFACTS = 100, 100
#: What is kept of one run: itself, its events, and its tasks: tests, generation, refactoring, collection.
KEYS_OF_A_RUN = 6


def test_memory_of_redis_levels_off(
    fleet: Fleet,
    valkey: redis.Redis,
    eventually: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2,000 runs, each leaving an artifact: the last third takes no more memory than the one before."""
    monkeypatch.setenv("TTA_MAX_RUNS", str(MAX_RUNS))
    monkeypatch.setenv("TTA_ARTIFACT_BYTES", str(MAX_ARTIFACTS * ARTIFACT_BYTES))
    monkeypatch.setenv("TTA_RECONCILE_INTERVAL_S", "1")
    monkeypatch.setenv("TTA_SUBMIT_FSYNC_TIMEOUT_S", "0")
    settings.cache_clear()
    fleet.client = TaskClient.connect()
    for _ in range(2):
        fleet.start()
    memory: list[int] = []
    for _ in range(RUNS // AT_ONCE):
        for run_id in [fleet.submit(["one_leaves"], target=Target.DEV) for _ in range(AT_ONCE)]:
            fleet.ended(run_id)
        memory.append(valkey.info("memory")["used_memory"])
    # The faster runs are, the more of what they leave is too young to be removed: it levels off after some seconds.
    third = len(memory) // 3
    assert max(memory[2 * third :]) <= 1.25 * max(memory[third : 2 * third]), memory
    assert valkey.zcard("tta:runs") == MAX_RUNS
    assert sum(kept(valkey, kind) for kind in ("run", "events", "task")) == MAX_RUNS * KEYS_OF_A_RUN
    eventually(lambda: kept(valkey, "artifact") <= MAX_ARTIFACTS)
    assert valkey.zcard("tta:artifacts") == kept(valkey, "artifact")


def kept(valkey: redis.Redis, kind: str) -> int:
    """How many keys there are of a kind."""
    return sum(1 for _ in valkey.scan_iter(f"tta:{kind}:*", count=1000))
