"""The Celery application that producers and workers share."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader

from tta_tasks import tls
from tta_tasks.kinds import TASK_ROUTES, longest_s
from tta_tasks.models import Priority
from tta_tasks.queues import NAMES, REDIS_STEPS, queues_on, transport_priority
from tta_tasks.settings import Settings, settings

#: How often a worker looks for messages on Redis that nobody has renewed, in seconds.
RESTORE_EVERY_S = 5


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for these settings."""
    redis_options = {
        "visibility_timeout": settings.visibility_timeout_s,
        "global_keyprefix": settings.key_prefix,
        # A blocking read lasts 1 s; redis-py's default socket timeout must stay well above it.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 25,
    }
    broker_options: dict[str, Any] = {"confirm_publish": True}
    if settings.transport == "redis":
        broker_options = {
            **redis_options,
            "priority_steps": list(REDIS_STEPS),
            "sep": ":",
            "queue_order_strategy": "priority",
            "unacked_restore_interval": RESTORE_EVERY_S,
            "unacked_restore_throttle": 1,
            # The lock of the worker that looks. Kombu would keep it 300 s when that one dies; two at once do no harm.
            "unacked_mutex_expire": RESTORE_EVERY_S,
        }
    return {
        "broker_url": settings.broker,
        "broker_transport_options": broker_options,
        "broker_use_ssl": tls.broker_options(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": 5,
        # A Redis that refuses to write, its disk full, is waited for; without this it would end the worker.
        "broker_channel_error_retry": True,
        "result_backend": settings.redis or None,
        "result_backend_transport_options": redis_options,
        "redis_backend_use_ssl": tls.redis_options(settings, settings.redis) or None,
        "result_expires": settings.retention_s,
        # Longer than any run: with a shorter one, a chord's body would never be called.
        "result_chord_expires": settings.retention_s,
        "result_extended": False,
        "task_queues": queues_on(settings.transport, ack_within_s=longest_s(settings) + 60),
        "task_routes": TASK_ROUTES,
        "task_default_queue": NAMES[0],
        "task_create_missing_queues": False,
        "task_default_priority": transport_priority(Priority.NORMAL, settings.transport),
        # A message is acknowledged when its task has ended, and goes back when its worker is lost.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_track_started": False,  # the ledger tells, and more
        "task_soft_time_limit": settings.task_timeout_s,
        "task_time_limit": settings.task_timeout_s + settings.task_grace_s,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 10.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_proc_alive_timeout": 20.0,
        # JSON only: a pickle in a message would be code.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "timezone": "UTC",
    }


class Loader(AppLoader):
    """Imports tasks from where Python finds modules.

    Celery's own looks into the current folder first, and that may be the repository under test.
    """

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:  # noqa: ANN401 - Celery's own
        """Import ``module``, wherever the process was started."""
        return (imp or self.import_module)(module, package=package)


app = Celery("tta_tasks", loader=Loader, include=["tta_tasks.tasks", "tta_tasks.canary"], set_as_current=False)
# Read on first use, not on import: a producer may set the environment up first.
app.add_defaults(lambda: configuration(settings()))
