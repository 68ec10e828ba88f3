"""For ``celery -A tta_tasks flower --conf=deploy/flower/flowerconfig.py``; ``tta flower`` starts the same by itself."""

from orchestrator.flowerconfig import *  # noqa: F403 - Flower reads its options from this file's own names
