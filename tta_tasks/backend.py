"""Celery's result backend, for those who do not wait for Celery's results."""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend


class QuietBackend(RedisBackend):
    """Counts the parts of chords and stores results, but listens to none.

    Results are read from the ledger. Celery's own way would subscribe once for every task of a canvas that is
    published, and unsubscribe when its ``AsyncResult`` is collected.
    """

    def on_task_call(self, producer: Any, task_id: str) -> None:  # noqa: ANN401 - Celery's own
        """Do not subscribe to the result of a task that is being published."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401 - Celery's own
        """Do not wait for ``result``."""
        return result

    def remove_pending_result(self, result: Any) -> Any:  # noqa: ANN401 - Celery's own
        """There is nothing to stop waiting for."""
        return result


def quiet(url: str) -> str:
    """The setting ``result_backend`` for this backend on the Redis at ``url``."""
    # Celery itself takes the first part of `redis+socket` for the name of the backend.
    return f"{__name__}:{QuietBackend.__name__}+{url.removeprefix('redis+')}"
