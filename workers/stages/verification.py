"""Whether a changed tree still does what it did: public API, imports, tests, no new lint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from tta_tasks.models import SuiteReport
from tta_tasks.protocols import Workspace
from workers.component import quality_tools
from workers.component.suite import run_suite
from workers.gates import lint
from workers.gates.findings import Finding, ToolFailed, new

#: Seconds that importing the modules may take.
IMPORT_S = 60.0
#: Things named in one reason.
MAX_NAMED = 3

_MARK = "tta-imported "
_PROGRAM = f"""
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        fault = ""
    except BaseException as error:
        fault = f"{{type(error).__name__}}: {{error}}".replace("\\n", " ")
    print(f"\\n{_MARK}{{name}} {{fault}}", file=sys.__stdout__, flush=True)
"""


@dataclass
class Verification:
    """Holds a tree that is being changed against the tree it came from.

    Args:
        before: The tree as it was; it stays untouched.
        after: The tree as it is.
        suite: What the tests of ``before`` gave; run when it is not known.
    """

    before: Workspace
    after: Workspace
    suite: SuiteReport | None = None
    _held: set[str] = field(default_factory=set)

    def __call__(self) -> str:
        """Why the tree does not hold as it is now, or an empty string."""
        content = self._content()
        if content in self._held:
            return ""
        reason = self._api() or self._imports() or self._lint() or self._tests()
        if not reason:
            self._held.add(content)
        return reason

    def _content(self) -> str:
        digest = hashlib.sha256()
        for file in quality_tools.source_files(self.after):
            digest.update(f"{file}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
        return digest.hexdigest()

    def _api(self) -> str:
        from workers.component.api_compat import api_breakages  # noqa: PLC0415 - takes long, and what is cached needs no verification

        breakages = api_breakages(self.before.root, self.after.root, self.after.component)
        return f"changes the public API: {_named(breakages)}" if breakages else ""

    def _imports(self) -> str:
        now = _import_faults(self.after)
        broken = [f"{name} ({fault})" for name, fault in now.items() if fault and not self._import_faults_before[name]]
        return f"breaks imports: {_named(broken)}" if broken else ""

    def _lint(self) -> str:
        try:
            found = new(self._linted_before, _lasting(self.after))
        except ToolFailed:
            return ""  # a linter that cannot work does not speak against the change; the gate says so later
        named = _named(map(str, found))
        return f"adds findings: {named}" if named else ""

    def _tests(self) -> str:
        before, now = self._suite_before, run_suite(self.after, coverage=False)
        if now.aborted:
            return f"the suite does not come to its end: {now.aborted}"
        known = {failure.id for failure in before.failures}
        broken = [failure.id for failure in now.failures if failure.id not in known]
        if broken or now.failed + now.errors > before.failed + before.errors:
            return f"breaks tests: {_named(broken)}"
        if now.passed < before.passed:
            return f"only {now.passed} of {before.passed} tests still run"
        return ""

    @cached_property
    def _import_faults_before(self) -> dict[str, str]:
        return _import_faults(self.before)

    @cached_property
    def _linted_before(self) -> list[Finding]:
        return _lasting(self.before)

    @cached_property
    def _suite_before(self) -> SuiteReport:
        return self.suite or run_suite(self.before, coverage=False)


def _lasting(workspace: Workspace) -> list[Finding]:
    """What the linter finds and cannot mend: a step may leave to the next what that one will tidy up."""
    return [found for found in lint.detect(workspace, quality_tools.source_files(workspace)) if not found.fixable]


def _import_faults(workspace: Workspace) -> dict[str, str]:
    """Why each module of the component cannot be imported; empty where it can."""
    faults: dict[str, str] = {}
    limits = replace(workspace.limits, wall_s=min(IMPORT_S, workspace.limits.wall_s))
    # Importing __main__ would run the program.
    waiting = [module.name for module in workspace.component.modules if not module.name.endswith("__main__")]
    while waiting:
        said = workspace.run_python("-c", _PROGRAM, *waiting, limits=limits).stdout.splitlines()
        answers = [line.removeprefix(_MARK).partition(" ") for line in said if line.startswith(_MARK)]
        faults |= {name: fault for name, _, fault in answers if name in waiting}
        waiting = [name for name in waiting if name not in faults]
        if waiting:  # this one ended the process
            faults[waiting.pop(0)] = "ends the interpreter"
    return faults


def _named(things: Iterable[str]) -> str:
    things = list(things)
    more = len(things) - MAX_NAMED
    return ", ".join(things[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
