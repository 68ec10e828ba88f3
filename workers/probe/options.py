"""The repository's own pytest configuration stays in force, less what disturbs the measurement."""

from __future__ import annotations

import importlib.util

import pytest

#: Plugin's module -> arguments that keep it loaded, but out of the way.
_CALM = {
    "pytest_cov": ["--no-cov"],
    "xdist": ["-n0"],
    "pytest_randomly": ["--randomly-dont-reorganize", "--randomly-seed=0"],
    "pytest_rerunfailures": ["--reruns=0"],
}

#: Plugin's module -> options that repositories put into ``addopts``: (name, if it takes a value; ``None``: it may).
#: They are accepted and ignored where the plugin is not installed.
_ABSORBED: dict[str, list[tuple[str, bool | None]]] = {
    "pytest_cov": [
        ("--cov", None),
        ("--cov-report", True),
        ("--cov-config", True),
        ("--cov-fail-under", True),
        ("--cov-context", True),
        ("--cov-precision", True),
        ("--cov-append", False),
        ("--cov-branch", False),
        ("--cov-reset", False),
        ("--no-cov", False),
        ("--no-cov-on-fail", False),
    ],
    "xdist": [("--numprocesses", True), ("--dist", True), ("--maxprocesses", True)],
    "pytest_randomly": [
        ("--randomly-seed", True),
        ("--randomly-dont-reorganize", False),
        ("--randomly-dont-reset-seed", False),
    ],
    "pytest_rerunfailures": [("--reruns", True), ("--reruns-delay", True), ("--only-rerun", True)],
}


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def calming_arguments(scratch: str) -> list[str]:
    """Arguments to put before the paths: after ``addopts``, so they win."""
    arguments = [
        "-o",
        f"cache_dir={scratch}/pytest-cache",
        f"--basetemp={scratch}/pytest-tmp",
        "--continue-on-collection-errors",
        "--maxfail=0",
    ]
    for module, calm in _CALM.items():
        arguments += calm if _installed(module) else []
    return arguments


class AbsorbOptions:
    """Pytest plugin: knows the options of well-known plugins that are not installed."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Accept them."""
        group = parser.getgroup("absorbed", "options of plugins that are not installed")
        for module, options in _ABSORBED.items():
            for name, value in () if _installed(module) else options:
                if value is None:
                    group.addoption(name, action="append", nargs="?", const=True, dest=f"absorbed{name}")
                elif value:
                    group.addoption(name, action="append", dest=f"absorbed{name}")
                else:
                    group.addoption(name, action="store_true", dest=f"absorbed{name}")
        if not _installed("xdist"):
            # ``Parser`` keeps one-letter options for itself.
            group._addoption("-n", action="append", dest="absorbed-n")  # noqa: SLF001
