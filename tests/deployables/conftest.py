"""What checks deploy/ is large and installed by `make deployables`; at home it may be missing, in CI not."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def needed() -> Callable[[str], ModuleType]:
    """Import a module of the dependency group ``deploy``."""

    def load(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            assert not os.environ.get("CI"), f"CI must have {name}"
            pytest.skip(f"{name} is not installed: make deployables")

    return load


@pytest.fixture(scope="session")
def checked() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a checker of the environment, or of the system; its complaints are the failure's message."""

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        beside = Path(sys.executable).with_name(program)
        found = str(beside) if beside.exists() else shutil.which(program)
        if found is None:
            assert not os.environ.get("CI"), f"CI must have {program}"
            pytest.skip(f"{program} is not installed")
        ended = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    return run
