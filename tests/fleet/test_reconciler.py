"""What the reconciler sees of the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tta_tasks.queues import Priority
from workers.reconciler import oldest_waiting

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("priority", list(Priority))
def test_oldest_message_of_a_queue_is_seen(fleet: Fleet, priority: Priority) -> None:
    """A message that waits is found in its queue at its priority; so nobody takes it for lost however long it waits."""
    waiting = fleet.client.ledger.run(fleet.submit(["one"], priority=priority)).tasks[0]
    fleet.submit(["two"], priority=priority)
    assert oldest_waiting(waiting) == waiting.id
    assert oldest_waiting(waiting.model_copy(update={"queue": "deployment"})) is None
