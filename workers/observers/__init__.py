"""Observers: what is told of each run and task that has ended (``tta_tasks.protocols.Observer``)."""
