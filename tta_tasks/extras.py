"""The optional parts of this package, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from tta_tasks.errors import SettingsError

#: Extra -> the modules that it brings. To read the package's metadata instead would slow down the start of `tta`.
MODULES: Final = {
    "worker": (
        *(
            "bandit",
            "filelock",
            "griffe",
            "limits",
            "mypy",
            "psutil",
            "pybreaker",
            "pyupgrade",
            "ruff",
            "unearth",
            "uv",
        ),
    ),
    "cli": ("jinja2", "junitparser", "markupsafe", "rich"),
    "flower": ("flower", "tornado"),
    "metrics": ("prometheus_client",),
}


def missing(extra: str) -> list[str]:
    """The modules of ``extra`` that are not installed here."""
    return [name for name in MODULES[extra] if find_spec(name) is None]


def require(extra: str, what: str) -> None:
    """Check that ``extra`` is installed.

    Args:
        extra: Its name.
        what: What needs it, to begin the message with.

    Raises:
        SettingsError: It is not; the hint is the command that installs it.
    """
    if absent := missing(extra):
        raise SettingsError(
            f"{what} needs packages that are not installed here: {', '.join(absent)}.",
            f"Install them: pip install 'tta-tasks[{extra}]'.",
        )
