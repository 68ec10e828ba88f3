"""What is told of a task that a worker has: to Flower and everyone else who listens to Celery's events.

In Celery's eyes every task succeeds, as a fault is a result (:mod:`workers.process.delivery`). Whoever watches the
events wants to know how it really ended, on which queue it came, and what a person calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from billiard.exceptions import WorkerLostError
from celery.exceptions import InvalidTaskError
from celery.worker import request
from celery.worker.strategy import default

from tta_tasks.kinds import BY_TASK
from tta_tasks.models import Status
from tta_tasks.settings import settings
from workers.process import lost_tasks
from workers.process.delivery import UNHEARD

#: Shown of a task that was published with its request, instead of the request.
UNNAMED: Final = "('with its own request',)"
#: What a declared task answers, as Celery writes it: not quite Python, for want of escapes.
ANSWER: Final = re.compile(r"'status': '(?P<status>\w+)'(?:, 'error': '(?P<error>.*?)'?\}?$)?", re.DOTALL)


class CeleryRequest(request.Request):
    """A task's message at a worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(*args, **kwargs)
        # What kombu raises for a channel whose connection was closed under it; unforeseen, it would end the worker.
        self._connection_errors = (*self._connection_errors, AttributeError)  # type: ignore[has-type]
        # Whoever published a message stamped its own limits on it; those of the host that does the work count.
        kind = BY_TASK.get(self.name)
        self.time_limits = kind.time_limits(settings()) if kind else (None, None)
        if kind:
            # A message may name another's task: it must not revoke that by having expired. See delivery.py.
            self._expires = None
        self._request_dict[UNHEARD] = not self._heard  # type: ignore[attr-defined]
        shown = self._argsrepr = str(self._argsrepr)  # type: ignore[has-type]
        if self.name in BY_TASK and "{" in shown:
            self._argsrepr = UNNAMED

    @property
    def _heard(self) -> bool:
        """Whether somebody listens to the events of tasks."""
        dispatcher: Any = self.eventer
        return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002, ANN401 - Celery's own
        """Send an event that tells the queue the message came from, and the end the task really took.

        Each event names its task: whoever began to listen late must know, too, what has ended.
        """
        if not self._heard:
            return
        fields |= {"name": self.name, "args": self._argsrepr, "routing_key": self.queue}
        if type == "task-succeeded" and self.name in BY_TASK:
            told = true_end(fields["result"])
            if told is None:
                return  # a copy: the task itself is still to end
            type, more = told  # noqa: A001
            fields |= more
        super().send_event(type, **fields)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's own
        """Free the task of a process that died before its message goes back, or whoever gets it would see it held."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and self.name in BY_TASK:
            lost_tasks.give_back(self.id, self.hostname, "its process was lost", lost=True)
        return super().on_failure(exc_info, *args, **kwargs)

    def cancel(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's own
        """End the task because its worker must end; free it, so that the next one may begin it at once."""
        if self.name in BY_TASK:
            lost_tasks.give_back(self.id, self.hostname, "its worker was shut down", lost=False)
        return super().cancel(*args, **kwargs)

    def info(self, safe: bool = True) -> Any:  # noqa: ANN401, ARG002, FBT001, FBT002 - Celery's own
        """Describe the message for remote control: never with its arguments, only with what stands for them."""
        return super().info(safe=True)

    @property
    def queue(self) -> str:
        """Name of the queue it came from."""
        kind = BY_TASK.get(self.name)
        return str(self.delivery_info.get("routing_key") or (kind.queue if kind else ""))


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - Celery's own
    """Celery's own way from message to request, for which a malformed body is one more invalid task.

    Unforeseen, it would end the worker, and come again to the next one.
    """
    handle = default(task, app, consumer, **options)

    def handle_message(message: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's own
        try:
            return handle(message, *args, **kwargs)
        except (ValueError, TypeError, LookupError) as error:
            raise InvalidTaskError(f"its body is not that of a task: {error}") from error

    return handle_message


def true_end(result: str) -> tuple[str, dict[str, Any]] | None:
    """The event that tells how a declared task ended, from the text of what it answered.

    Returns:
        The event's type and what it says; ``None`` when the task has not ended.
    """
    answer = ANSWER.search(result)
    status = Status(answer["status"]) if answer else Status.COMPLETED
    error = (answer["error"] if answer else "") or status.value
    match status:
        case Status.COMPLETED:
            return "task-succeeded", {"result": status.value}
        case Status.FAILED:
            return "task-failed", {"result": status.value, "exception": error, "traceback": None}
        case Status.SKIPPED | Status.CANCELLED:
            return "task-revoked", {"result": error, "terminated": False, "signum": None, "expired": False}
        case _:
            return None
