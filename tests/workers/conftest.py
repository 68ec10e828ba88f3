"""What tests of workers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tta_tasks import plugins


@pytest.fixture
def words_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gate ``words`` of another package is installed."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "installed")
    plugins._found.cache_clear()
    yield
    plugins._found.cache_clear()
