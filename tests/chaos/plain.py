"""The same deeds as plain Celery tasks, with the settings that are usually advised: for contrast."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task

from tests.chaos import effects
from tests.chaos.arena import COMPONENTS, TASK_TIMEOUT_S
from tests.chaos.deeds import do
from tests.chaos.journal import note
from tta_tasks.errors import TransientError
from tta_tasks.queues import REDIS_STEPS

#: Environment variables: the broker's URL, and its visibility timeout in seconds.
BROKER, VISIBILITY = "PLAIN_BROKER", "PLAIN_VISIBILITY_S"
#: Where tasks go.
QUEUE = "plain"

app = Celery("plain", set_as_current=False)
app.add_defaults(
    lambda: {
        "broker_url": os.environ[BROKER],
        "result_backend": os.environ[BROKER],
        "broker_transport_options": {
            "visibility_timeout": float(os.environ[VISIBILITY]),
            "priority_steps": list(REDIS_STEPS),
            "queue_order_strategy": "priority",
        },
        "broker_connection_retry_on_startup": True,
        "task_default_queue": QUEUE,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_soft_time_limit": TASK_TIMEOUT_S,
        "task_time_limit": TASK_TIMEOUT_S + 1,
        "worker_prefetch_multiplier": 1,
    }
)


@app.task(bind=True, max_retries=5)
def deed(self: Task[..., Any], name: str) -> str:
    """Do a deed and note its start and its end. What is done twice cannot know of the first time."""
    key, attempt = str(self.request.id), f"{os.getpid()} {self.request.retries}"
    note("start", key, attempt=attempt)
    again = self.request.retries > 0 or bool((self.request.delivery_info or {}).get("redelivered"))
    try:
        if name == "release":
            # To one of the same sites, but without a fence: there is nothing that knows when it was first begun.
            effects.release(key, COMPONENTS[1 + int(key[:2], 16) % len(COMPONENTS[1:])], "staging", 0.0)
        else:
            do(name, 2 if again else 1)
    except TransientError as error:
        raise self.retry(exc=error, countdown=2**self.request.retries) from error
    note("end", key, attempt=attempt)
    return name


@app.task
def gather(results: list[str]) -> int:
    """The callback of a chord."""
    return len(results)
