"""What really happened, kept outside Redis: one file that every process appends to."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

#: Environment variable that names the file.
VARIABLE = "CHAOS_JOURNAL"


def note(what: str, key: str, **more: Any) -> None:  # noqa: ANN401 - any JSON
    """Append one entry. A line this short is written whole, whoever else appends and whoever is killed."""
    entry = {"what": what, "key": key, "at": time.time(), "pid": os.getpid(), **more}
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(file)


def read(path: Path) -> list[dict[str, Any]]:
    """All entries, in the order in which they were written."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
