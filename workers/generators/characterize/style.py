"""Import order and layout, by ruff with its defaults whatever the component's own configuration says."""

from __future__ import annotations

import json
import subprocess

from ruff import find_ruff_bin  # type: ignore[import-untyped]

from tta_tasks.errors import EngineFailed

_TIMEOUT_S = 60


def styled(source: str, package: str) -> str:
    """``source`` with sorted imports, none unused, and formatted.

    Args:
        source: A test file of ours.
        package: Top-level name of the component, whose imports come last.

    Raises:
        EngineFailed: ruff does not accept it.
    """
    own = f"lint.isort.known-first-party={json.dumps([package])}"
    fixed = _ruff(["check", "--select", "I,F401", "--fix", "--exit-zero", "--quiet", "--config", own], source)
    return _ruff(["format"], fixed)


def _ruff(arguments: list[str], source: str) -> str:
    command = [find_ruff_bin(), *arguments, "--isolated", "--no-cache", "--stdin-filename", "test_generated.py", "-"]
    done = subprocess.run(
        command, input=source, capture_output=True, text=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise EngineFailed(f"The generated tests cannot be formatted: {done.stderr.strip()[-300:]}")
    return done.stdout
