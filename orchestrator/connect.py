"""A client of the broker that is configured, or of the local stack, which is started where none runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.local.joining import joined
from tta_tasks.settings import Settings, settings

if TYPE_CHECKING:
    from tta_tasks.client import TaskClient


@contextlib.contextmanager
def connect(slots: int | None = None) -> Iterator[TaskClient]:
    """A client of the broker that is configured, or of the local stack, which is then started if need be.

    Raises:
        BrokerUnavailable: The local stack does not start.
        SettingsError: The state folder cannot be written.
    """
    if Settings().broker:
        yield _client()
        return
    with joined(settings().state_dir, slots=slots):
        settings.cache_clear()  # they name the stack's broker now
        try:
            yield _client()
        finally:
            settings.cache_clear()


def _client() -> TaskClient:
    from tta_tasks.client import TaskClient  # noqa: PLC0415 - the stack's worker starts meanwhile

    return TaskClient.connect()
