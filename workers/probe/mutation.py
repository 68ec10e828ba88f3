"""Which tests notice which faults: a fork for each mutant, the code of live functions swapped in it."""

from __future__ import annotations

import ast
import gc
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from _pytest.runner import runtestprotocol

from .channel import Channel
from .config import Mutation
from .forks import Ending, fork
from .mutants import Mutant, mutants
from .recorder import Recorder

#: A mutant's tests may take this many times as long as they usually do, and this much more.
_SLOWER = 5
_GRACE_S = 1.0
#: A test's number, and how it went; nothing where it was not over.
_VERDICT = re.compile(r"([0-9]{1,9})([+-]?)")

_Functions = dict[CodeType, list[FunctionType]]


class MutationLoop:
    """Pytest plugin: instead of running the tests once, runs those that reach a mutant, for each mutant."""

    def __init__(self, channel: Channel, plan: Mutation, recorder: Recorder) -> None:
        self.channel = channel
        self.recorder = recorder
        self.plan = plan

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replaces pytest's own loop."""
        deadline = time.monotonic() + self.plan.budget_s
        items = {item.nodeid: item for item in session.items}
        kept = [items[name] for name in self.plan.kept if name in items]
        spare = [items[name] for name in self.plan.spare if name in items]
        sane = set(self._sane(kept + spare))
        code = _Swapper(self.plan.path)
        gc.freeze()  # what is there now is not looked at again in the forks
        for mutant in self._sample(code.tree):
            if time.monotonic() > deadline:
                break
            reach = [[t for t in group if t in sane and self._reaches(t, mutant)] for group in (kept, spare)]
            if any(reach):
                self._try(code, mutant, *reach)
        return True

    def _sample(self, tree: ast.Module) -> list[Mutant]:
        reached = {line for lines in self.plan.lines.values() for line in lines}
        found = [mutant for mutant in mutants(tree) if mutant.line in reached]
        random.Random(self.plan.seed).shuffle(found)  # noqa: S311  # a sample, not a secret
        return found[: self.plan.most]

    def _reaches(self, item: pytest.Item, mutant: Mutant) -> bool:
        return mutant.line in self.plan.lines.get(item.nodeid, ())

    def _limit(self, items: list[pytest.Item]) -> float:
        return _GRACE_S + _SLOWER * sum(self.plan.durations.get(item.nodeid, 0.0) for item in items)

    def _sane(self, items: list[pytest.Item]) -> Iterator[pytest.Item]:
        """Those that pass here without any fault."""
        ending = fork(lambda send: _run_all(items, send), self._limit(items))
        failed = set(_killers(ending, len(items)))
        return (item for index, item in enumerate(items) if index not in failed)

    def _try(self, code: _Swapper, mutant: Mutant, kept: list[pytest.Item], spare: list[pytest.Item]) -> None:
        swaps = code.swaps(mutant)
        if not swaps:
            return

        def work(send: Callable[[bytes], None]) -> None:
            for function, new in swaps:
                function.__code__ = new
            if not _run(kept, send, stop=True):
                _run(spare, send, stop=False, offset=len(kept))

        items = kept + spare
        ending = fork(work, self._limit(items))
        killers = [self.recorder.numbers[items[index].nodeid] for index in _killers(ending, len(items))]
        self.channel.write("mutant", line=mutant.line, operator=mutant.operator, killers=killers)


def _run(items: list[pytest.Item], send: Callable[[bytes], None], *, stop: bool, offset: int = 0) -> bool:
    """Run ``items``; sends ``INDEX`` before and ``+`` or ``-`` after each. Answers whether one failed."""
    failed = False
    for index, item in enumerate(items, offset):
        send(b"%d" % index)
        bad = any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))
        send(b"-" if bad else b"+")
        failed = failed or bad
        if bad and stop:
            break
    return failed


def _run_all(items: list[pytest.Item], send: Callable[[bytes], None]) -> None:
    _run(items, send, stop=False)


def _killers(ending: Ending, count: int) -> list[int]:
    """Indices of the tests that failed, or in which the fork hung or died."""
    verdicts = _VERDICT.findall(ending.sent.decode("ascii", "replace"))
    return sorted({int(index) for index, verdict in verdicts if verdict != "+" and int(index) < count})


class _Swapper:
    """Finds what to put where for a mutant."""

    def __init__(self, path: str) -> None:
        self.path = path
        source = Path(path).read_bytes()
        self.tree = ast.parse(source)
        self.original = list(_nested(compile(source, path, "exec", dont_inherit=True)))
        self.live = _live_functions(os.path.realpath(path))

    def swaps(self, mutant: Mutant) -> list[tuple[FunctionType, CodeType]]:
        """Live functions with their mutated code; empty where the mutant cannot be put in place."""
        try:
            faulty = list(_nested(mutant.compile(self.tree, self.path)))
        except (SyntaxError, ValueError):
            return []
        if [code.co_name for code in faulty] != [code.co_name for code in self.original]:
            return []
        pairs = [(old, new) for old, new in zip(self.original, faulty) if old != new]  # noqa: B905  # Python 3.9
        if any(old.co_freevars != new.co_freevars for old, new in pairs):
            return []
        return [(function, new) for old, new in pairs for function in self.live.get(old, ())]


def _nested(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _nested(constant)


def _live_functions(path: str) -> _Functions:
    found: _Functions = {}
    for candidate in gc.get_objects():
        if isinstance(candidate, FunctionType) and os.path.realpath(candidate.__code__.co_filename) == path:
            found.setdefault(candidate.__code__, []).append(candidate)
    return found
