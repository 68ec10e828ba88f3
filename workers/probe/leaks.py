"""What a test changed around itself and did not put back."""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
import gc
import locale
import logging
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

#: Modules of the standard library that tests like to patch.
_PATCHED = (builtins, dt, os, pathlib, random, shutil, socket, subprocess, tempfile, time)
#: Written by tools in passing; not the test's own.
_TOOLS = {"__pycache__", ".git", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".coverage"}
#: A module that remembers answers is meant to.
_MEMORY = re.compile(r"cache|memo", re.IGNORECASE)
#: How much of a value is looked at.
_NODES = 20_000


def _files(folders: list[str], without: set[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    pending = list(dict.fromkeys(folders))
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name in _TOOLS or entry.path in without or entry.path in found:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found[entry.path] = ()
                        pending.append(entry.path)
                    else:
                        stat = entry.stat(follow_symlinks=False)
                        found[entry.path] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
        except OSError:  # gone, or not ours to read
            continue
    return found


def _loggers() -> dict[str, object]:
    known: dict[str, Any] = {"root": logging.root, **logging.root.manager.loggerDict}
    state: dict[str, object] = {
        name: (logger.level, logger.disabled, [id(handler) for handler in logger.handlers])
        for name, logger in known.items()
        if isinstance(logger, logging.Logger)
    }
    state["disable"] = logging.root.manager.disable
    return state


def _surroundings() -> dict[str, Mapping[str, object]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    process: dict[str, object] = {
        "cwd": os.getcwd(),  # noqa: PTH109
        "umask": _umask(),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "sys.meta_path": [id(finder) for finder in sys.meta_path],
        "recursion limit": sys.getrecursionlimit(),
        "excepthook": sys.excepthook,
        "displayhook": sys.displayhook,
        "locale": locale.setlocale(locale.LC_ALL),
        "time zone": time.tzname,
        "warnings": list(warnings.filters),
        "gc": gc.isenabled(),
        "socket timeout": socket.getdefaulttimeout(),
        "decimal context": str(decimal.getcontext().copy().prec) + decimal.getcontext().rounding,
        "signals": [_handler(number) for number in sorted(signal.valid_signals())],
        "threads": sorted(thread.name for thread in threading.enumerate() if not thread.daemon),
    }
    patched = {f"{module.__name__}.{name}": id(value) for module in _PATCHED for name, value in vars(module).items()}
    return {"environment": environment, "process": process, "logging": _loggers(), "standard library": patched}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _handler(number: int) -> object:
    try:
        return signal.getsignal(number)
    except ValueError:
        return None


class Fingerprint:
    """A value's content as something comparable, as far as it is plain data or of the component's own classes."""

    def __init__(self, modules: set[str]) -> None:
        self.modules = modules
        self.left = _NODES
        self.seen: set[int] = set()

    def of(self, value: object) -> object:
        """Equal before and after for whatever did not change."""
        self.left -= 1
        if isinstance(value, (int, float, complex, str, bytes, bytearray, type(None))):
            return (type(value).__name__, repr(value))
        if self.left < 0 or id(value) in self.seen or isinstance(value, (ModuleType, FunctionType)):
            return id(value)
        self.seen.add(id(value))
        return (id(value), self._content(value))

    def _content(self, value: object) -> object:
        if isinstance(value, dict):
            return [(self.of(key), self.of(item)) for key, item in list(value.items())]
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in list(value)]
        if isinstance(value, (set, frozenset)):
            return sorted(repr(self.of(item)) for item in list(value))
        own = value if isinstance(value, type) else type(value)
        if own.__module__ in self.modules and hasattr(value, "__dict__"):
            return self.namespace(vars(value))
        return None

    def namespace(self, names: Mapping[str, object]) -> dict[str, object]:
        """The fingerprints of a module's, class's or instance's attributes."""
        return {
            name: self.of(value)
            for name, value in list(names.items())
            if not (name.startswith("__") and name.endswith("__")) and not _MEMORY.search(name)
        }


class ProcessState:
    """Everything that a test should find again as it was."""

    def __init__(self, folders: list[str], without: list[str], modules: list[str]) -> None:
        # The environment may lie below the temporary folder; nobody needs to look at it.
        self.files = _files(folders, {*without, sys.prefix})
        self.surroundings = _surroundings()
        names = set(modules)
        self.modules = {
            name: Fingerprint(names).namespace(vars(sys.modules[name])) for name in modules if name in sys.modules
        }

    def left_by(self, later: ProcessState) -> list[tuple[str, str]]:
        """What differs in ``later``: (kind, what)."""
        left = [("file", path) for path in _differing(self.files, later.files)]
        # A folder's own entry says nothing that its files do not, unless it is new or gone.
        for kind, before in self.surroundings.items():
            left += [(kind, name) for name in _differing(before, later.surroundings[kind], new=kind != "logging")]
        for module, before in self.modules.items():
            after = later.modules.get(module, {})
            left += [
                ("module", f"{module}.{name}")
                for name in _differing(before, after)
                if not _lazily_set(name, before.get(name), module)
            ]
        return left


def _lazily_set(name: str, before: object, module: str) -> bool:
    if before == ("NoneType", "None"):
        return name.startswith("_")
    # ``import package.part`` puts the part into its package.
    return before is None and f"{module}.{name}" in sys.modules


def _differing(before: Mapping[str, object], after: Mapping[str, object], *, new: bool = True) -> list[str]:
    names = [*before, *(name for name in after if new and name not in before)]
    missing = object()
    return [name for name in names if before.get(name, missing) != after.get(name, missing)]
