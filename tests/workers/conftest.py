"""What the tests of workers share: an environment for components, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin


@pytest.fixture(scope="session")
def component_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment like a component's: pytest, coverage and hypothesis."""
    home = tmp_path_factory.mktemp("component-environment") / "venv"
    python = home / "bin" / "python"
    uv = find_uv_bin()
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(home)],
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            str(python),
            "pytest>=9",
            "coverage>=7.10",
            "hypothesis",
        ],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    return python
