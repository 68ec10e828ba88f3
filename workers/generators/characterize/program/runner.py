"""Runs one input under the guard and the tracer, and says what came of it."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import contextlib
import dataclasses
import itertools
import random
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from .assertions import AssertionBuilder
from .case import HEAD, RESULT, Assertion, Call, Case
from .guard import Denied, Guard, TooSlow
from .names import Names
from .source import SAMPLE, statements
from .state import ModuleState
from .tracer import Tracer

#: The longest message worth matching, and the longest output worth comparing.
_MAX_MESSAGE = 100
_MAX_OUTPUT = 300
_MAX_CODES = 20_000
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
#: Wrong use of a language feature rather than behaviour, unless the module raises them itself.
_INCIDENTAL = (TypeError, AttributeError, NameError, AssertionError, OSError, ImportError, SyntaxError, RuntimeError)


@dataclass(frozen=True)
class Input:
    """What is to be run."""

    target: str
    call: Call
    receiver: str = ""
    history: tuple[Call, ...] = ()

    def source(self) -> str:
        """All of it in one line."""
        return " ; ".join([self.receiver, *(call.source("self") for call in (*self.history, self.call))])

    def journal_entry(self) -> str:
        """Target and source, to find out which input ended the process."""
        return f"{self.target}\t{self.source()}"


@dataclass
class Run:
    """What came of it."""

    #: ``value``, ``raised``, or ``dropped`` when it is not worth a test.
    status: str = "dropped"
    #: Tells outcomes apart roughly; ``None`` for those that only count when they reach something new.
    key: tuple[object, ...] | None = None
    features: set[tuple[int, int]] = field(default_factory=set)
    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    assertions: list[Assertion] = field(default_factory=list)
    slow: bool = False


class Runner:
    """Runs inputs in this process.

    Args:
        names: The module's names.
        guard: Installed already.
        tracer: Sees the module's code.
        builder: Makes assertions of values.
        folder: Where the package of the module is; exceptions raised there are deliberate.
        seconds: How long one input may take.
    """

    def __init__(
        self, names: Names, guard: Guard, tracer: Tracer, builder: AssertionBuilder, *, folder: Path, seconds: float
    ) -> None:
        self._names, self._guard, self._tracer, self._builder = names, guard, tracer, builder
        self._folder, self._seconds = str(folder), seconds
        self._state = ModuleState(names.module)
        self._codes: dict[tuple[str, str], CodeType] = {}
        self._raises: dict[str, set[int]] = {}
        #: Targets that were seen to change the object they are called on.
        self.changing: set[str] = set()

    def run(self, plan: Input, look: Callable[[dict[str, Any], Any], list[Assertion]] | None = None) -> Run:
        """Run ``plan``; ``look`` makes assertions of the namespace and the result while the guard still stands."""
        scope = dict(self._names.namespace)
        run = Run()
        text = plan.source()
        folder = self._bind_files(scope) if "sample" in text or "tmp_path" in text else None
        stage = [""]
        self._tracer.start()
        try:
            with self._guard.watch(self._seconds) as printed, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    self._execute(plan, scope, run, look, stage)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code raises what it likes
                    run.error = error
                run.printed = printed.getvalue()
        except (Denied, TooSlow, KeyboardInterrupt, GeneratorExit):
            run.slow = self._guard.tripped == "too slow"
            return run
        except BaseException:  # noqa: BLE001 - nothing foreign code raises may end the exploration
            return run
        finally:
            self._tracer.stop()
            run.features = self._tracer.seen
            self._state.restore()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        run.slow = self._guard.tripped == "too slow"
        if not self._guard.tripped:
            self._judge(plan, run, stage[0])
        return run

    def _bind_files(self, scope: dict[str, Any]) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._guard.folder))
        scope["tmp_path"] = folder
        exec("\n".join(SAMPLE), scope)  # noqa: S102 - a constant of ours
        return folder

    def _execute(
        self,
        plan: Input,
        scope: dict[str, Any],
        run: Run,
        look: Callable[..., list[Assertion]] | None,
        stage: list[str],
    ) -> None:
        if plan.receiver:
            scope["_self"] = eval(self._code(plan.receiver, "eval"), scope)  # noqa: S307 - inside the sandbox
        for call in plan.history:
            exec(self._code(call.source("_self"), "exec"), scope)  # noqa: S102 - inside the sandbox
        values = {}
        for index, argument in enumerate(plan.call.arguments):
            scope[f"_{index}"] = eval(self._code(argument.source, "eval"), scope)  # noqa: S307 - inside the sandbox
            values[argument.name] = f"_{index}"
        source = plan.call.source("_self", values)
        stage[0] = "call"
        self._tracer.clear()
        if plan.call.statement:
            exec(self._code(source, "exec"), scope)  # noqa: S102 - inside the sandbox
        else:
            run.value = eval(self._code(source, "eval"), scope)  # noqa: S307 - inside the sandbox
        run.status = "value"
        if look is not None:
            run.assertions = look(scope, run.value)
        elif hasattr(run.value, "__next__"):
            run.value = list(itertools.islice(run.value, HEAD + 1))

    def _code(self, source: str, mode: str) -> CodeType:
        code = self._codes.get((source, mode))
        if code is None:
            if len(self._codes) > _MAX_CODES:
                self._codes.clear()
            code = self._codes[source, mode] = compile(source, "<characterize>", mode)
        return code

    def _judge(self, plan: Input, run: Run, stage: str) -> None:
        if run.error is None:
            kind = type(run.value)
            truth = bool(run.value) if kind.__module__ == "builtins" else True
            after = plan.history[-1].template if plan.history else ""
            run.key = (kind.__qualname__, truth, bool(run.printed), after)
            return
        run.status = "dropped"
        if stage != "call" or isinstance(run.error, (MemoryError, RecursionError, EOFError)):
            return
        line = self._deliberate(run.error.__traceback__)
        if line:
            run.status, run.key = "raised", (type(run.error).__qualname__, line)
        elif isinstance(run.error, SystemExit):
            run.status, run.key = "raised", ("SystemExit", str(run.error.code))
        elif not isinstance(run.error, _INCIDENTAL):
            run.status = "raised"

    def _deliberate(self, traceback: TracebackType | None) -> int:
        """The line of the component's own ``raise`` that an exception comes from, or 0."""
        last = None
        while traceback is not None:
            last, traceback = traceback, traceback.tb_next
        if last is None or not last.tb_frame.f_code.co_filename.startswith(self._folder):
            return 0
        file = last.tb_frame.f_code.co_filename
        if file not in self._raises:
            self._raises[file] = _raise_lines(Path(file))
        return last.tb_lineno if last.tb_lineno in self._raises[file] else 0

    def record(self, plan: Input) -> Case | None:
        """Run ``plan`` again and keep what it does as a case; ``None`` where nothing firm can be said."""
        before = self._state_before(plan)
        chance = random.getstate()
        run = self.run(plan, lambda scope, value: self._look(plan, scope, value, before))
        if run.status == "dropped" or random.getstate() != chance:
            return None
        case = Case(plan.target, plan.call, plan.receiver, plan.history)
        features = tuple(sorted(f"{a}:{b}" for a, b in run.features))
        if run.status == "raised" and run.error is not None:
            return self._with_imports(self._raised(case, run.error), features)
        assertions = run.assertions
        if run.printed and (not assertions or run.value is None):
            text = self._builder.express(run.printed) if len(run.printed) <= _MAX_OUTPUT else None
            assertions = [Assertion("prints", "", text)] if text else []
        if not assertions:
            return None
        return self._with_imports(dataclasses.replace(case, assertions=tuple(assertions)), features)

    def _state_before(self, plan: Input) -> dict[str, Assertion]:
        if not plan.receiver:
            return {}
        found: list[Assertion] = []
        probe = Input(plan.target, Call("{self}"), plan.receiver, plan.history)

        def look(scope: dict[str, Any], _value: Any) -> list[Assertion]:
            found.extend(self._builder.of_state(scope["_self"]))
            return []

        self.run(probe, look)
        return {assertion.subject + assertion.how: assertion for assertion in found}

    def _look(self, plan: Input, scope: dict[str, Any], value: Any, before: dict[str, Assertion]) -> list[Assertion]:
        assertions = [] if plan.call.statement else self._builder.of_result(value, plan.call.source(plan.receiver))
        changed = self._changed_arguments(plan, scope)
        if plan.receiver:
            state = self._builder.of_state(scope["_self"])
            moved = [assertion for assertion in state if before.get(assertion.subject + assertion.how) != assertion]
            if moved:
                self.changing.add(plan.target)
            called = plan.call.statement or plan.call.template.endswith(")")
            changed += (moved[:3] if moved or value is not None else state[:1]) if called else []
        silent = assertions == [Assertion("is", RESULT, "None")]
        return (changed if silent and changed else assertions + changed) if changed else assertions

    def _changed_arguments(self, plan: Input, scope: dict[str, Any]) -> list[Assertion]:
        changed = []
        for index, argument in enumerate(plan.call.arguments):
            if argument.style in {"*", "**"} or not isinstance(scope[f"_{index}"], (list, dict, set, bytearray)):
                continue
            now = self._builder.express(scope[f"_{index}"])
            if now is None:
                continue
            with contextlib.suppress(Exception):
                if now != self._builder.express(eval(argument.source, dict(scope))):  # noqa: S307 - evaluated before
                    changed.append(Assertion("equal", f"{{{argument.name}}}", now))
        return changed

    def _raised(self, case: Case, error: BaseException) -> Case | None:
        cls = next((c for c in type(error).__mro__ if self._names.of(c)), Exception)
        name = self._names.of(cls)
        if name is None or cls in {Exception, BaseException}:
            return None
        lines = str(error).strip().splitlines()
        message = _short(lines[0]) if lines and self._deliberate_or_exit(error) else ""
        unfit = _ADDRESS.search(message) or self._builder.express(message) is None
        return dataclasses.replace(case, raises=name, message="" if unfit else message)

    def _deliberate_or_exit(self, error: BaseException) -> bool:
        return isinstance(error, SystemExit) or bool(self._deliberate(error.__traceback__))

    def _with_imports(self, case: Case | None, features: tuple[str, ...]) -> Case | None:
        if case is None:
            return None
        return dataclasses.replace(case, features=features, imports=self._names.imports("\n".join(statements(case))))


def _short(message: str) -> str:
    """As many whole words as are worth matching."""
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE].rpartition(" ")[0]


def _raise_lines(file: Path) -> set[int]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return set()
    spans = ((node.lineno, node.end_lineno or node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise))
    return {line for first, last in spans for line in range(first, last + 1)}
