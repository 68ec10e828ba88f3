"""What happened, as JSON lines on disk the moment it happens."""

from __future__ import annotations

import json
import os


class EventLog:
    """Appends events to a file.

    Only the process that owns it writes: a test that forks and lets its child run on would tell everything twice.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.owner = os.getpid()

    def adopt(self) -> None:
        """Make this process, a fork of the owner, the owner of its copy."""
        self.owner = os.getpid()

    def write(self, event: str, **fields: object) -> None:
        """Append one event."""
        if os.getpid() != self.owner:
            return
        line = json.dumps({"event": event, **fields}, default=str) + "\n"
        # Opened each time: code under test closes descriptors that are not its own.
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123  # may be patched
            file.write(line)
