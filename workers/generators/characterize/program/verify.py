"""Runs recorded cases again, in this fresh process, and says which hold."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import functools
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

from .case import Case
from .guard import Guard, Printed
from .source import statements

#: Often enough for a coin to show both sides.
_TIMES = 3


class _Capture:
    """As much of pytest's ``capsys`` as a rendered case uses."""

    def __init__(self, printed: Printed) -> None:
        self._printed = printed

    def readouterr(self) -> Any:
        """What was printed since the last time."""
        text = self._printed.getvalue()
        self._printed.clear()
        return SimpleNamespace(out=text, err="")


def verify(cases: list[Case], guard: Guard, *, seconds: float, seed: int, about_to: Callable[[int], None]) -> list[int]:
    """Indexes of the cases that hold, whatever their order.

    Args:
        cases: What was recorded.
        guard: Installed already.
        seconds: How long one may take.
        seed: Chooses the order.
        about_to: Told the index of each case before it is run.
    """
    failed: set[int] = set()
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    compiled = [compile("\n".join(statements(case)), f"<case {index}>", "exec") for index, case in enumerate(cases)]
    for _ in range(_TIMES):
        order = list(range(len(cases)))
        rng.shuffle(order)
        for index in order:
            about_to(index)
            if not _holds(compiled[index], cases[index], guard, seconds):
                failed.add(index)
    return [index for index in range(len(cases)) if index not in failed]


@functools.cache
def _compiled(statement: str) -> CodeType:
    return compile(statement, "<imports>", "exec")


def _holds(code: CodeType, case: Case, guard: Guard, seconds: float) -> bool:
    scope: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(dir=guard.folder)) if "tmp_path" in code.co_names else None
    try:
        for _, statement in case.imports:
            exec(_compiled(statement), scope)  # noqa: S102 - imports of ours
        with guard.watch(seconds) as printed, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scope |= {"tmp_path": folder, "capsys": _Capture(printed)}
            exec(code, scope)  # noqa: S102 - inside the sandbox
    except BaseException:  # noqa: BLE001 - whatever it raises, it does not hold
        return False
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return not guard.tripped
