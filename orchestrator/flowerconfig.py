"""How Flower is set up here: whoever looks must say who they are, and may only look.

Read by Flower itself: its own options, in lower case, at the top level. ``tta flower`` names this file; so does whoever
starts Flower by hand: ``celery -A tta_tasks flower --conf=deploy/flower/flowerconfig.py``.
"""

from __future__ import annotations

import os

from celery.events.state import Task
from flower.views.monitor import Metrics
from tornado.web import authenticated

from orchestrator.cli.flower import access


def format_task(task: Task) -> Task:
    """Show a task's label instead of the text of its arguments."""
    label = str(task.args or "")
    task.args = label.removeprefix("('").removeprefix('("').removesuffix("',)").removesuffix('",)')
    return task


# Flower itself asks nobody for a password here; the figures are for those who may see the rest, too.
Metrics.get = authenticated(Metrics.get)

globals().update(access())
read_only = True
address = "127.0.0.1"

# Bounds: Flower keeps what it has seen in memory and, with a file, over a restart.
max_tasks = 20_000
max_workers = 2_000
purge_offline_workers = 24 * 3600
db = os.environ.get("TTA_FLOWER_DB", "")
persistent = bool(db)
state_save_interval = 60_000 if db else 0

tasks_columns = "name,args,state,routing_key,received,started,runtime,retries,worker,exception,uuid"
