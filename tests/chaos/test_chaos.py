"""Sessions of chaos, short ones; ``make chaos`` holds a long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.stack


def session(folder: Path, **options: float) -> dict[str, Any]:
    """The report of a session, held in a process of its own; its record and logs stay in ``folder``."""
    argv = [sys.executable, "-m", "tests.chaos", "--folder", str(folder)]
    argv += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
def test_nothing_is_lost_in_a_short_session(tmp_path: Path) -> None:
    """Pool processes and workers killed, connections cut, the server killed: every accepted task ends as it must."""
    report = session(tmp_path, seed=7, tasks=40, workers=2, seconds=6, every=1.2)
    assert report["violations"] == []
    assert report["accepted"] == 40
    assert sum(report["faults"].values()) >= 3


@pytest.mark.slow
def test_nothing_is_lost_in_a_session_with_everything(tmp_path: Path) -> None:
    """Each kind of task and each kind of fault at least once: nothing is lost, nothing released twice, nothing left."""
    report = session(tmp_path, seed=11, tasks=200, workers=3, seconds=40, every=2.5)
    assert report["violations"] == []
    assert len(report["faults"]) == 8
