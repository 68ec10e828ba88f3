"""Observers: what is notified of each run and task that has ended (``tta_tasks.protocols.Observer``)."""
