"""Wheels of a component that is a service (shop.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployers.shop import Wheels


@pytest.fixture(scope="session")
def wheels(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """A wheel of each version."""
    return Wheels(cache, tmp_path_factory.mktemp("shop"))
