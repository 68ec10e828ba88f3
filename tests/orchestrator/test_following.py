"""What is said to who leaves a run before its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import following
from tta_tasks import stack
from tta_tasks.stack import Stack


@pytest.mark.parametrize(("kept", "said"), [(True, "the run goes on"), (False, "`tta resume 1234` continues")])
def test_who_leaves_is_told_whether_the_run_goes_on(
    kept: bool,  # noqa: FBT001
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stack that is kept goes on with the run; one of the run's own ends with it."""
    monkeypatch.setenv("TTA_STATE_DIR", str(tmp_path))
    with stack.supervised(tmp_path):
        stack.write(tmp_path, Stack(pid=1, broker_url="redis://127.0.0.1:1", slots=1, kept=kept, started_at=0))
        assert said in following._parting("1234")
