"""Whether a changed tree still does what it did: public API, imports, tests, no new lint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tta_tasks import patches
from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import SuiteReport
from tta_tasks.protocols import Workspace
from workers.component.api_compat import api_breakages
from workers.component.copies import fresh_copy
from workers.component.quality_tools import source_files
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

    The component's code runs in neither: for each verdict the tree as it was is copied, with the sources as they are
    now, and what its tests do to the copy is of no further effect.

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
        try:
            changes = self._changes()
        except OSError as error:
            return f"leaves a module that cannot be read: {error}"
        content = _digest(changes)
        if not changes or content in self._held:
            return ""
        with fresh_copy(self.before, changes) as trial:
            # Code of the component runs last: it may do with the copy what it likes.
            reason = self._api(trial) or self._lint(trial) or self._imports(trial) or self._tests(trial)
        if not reason:
            self._held.add(content)
        return reason

    def patch(self) -> bytes:
        """What turns the sources as they were into those that hold; empty where nothing differs.

        Raises:
            EngineFailed: They are not those that were found to hold.
            PatchError: It is too large.
        """
        try:
            changes = self._changes()
        except OSError as error:
            raise EngineFailed(f"The refactoring left a module that cannot be read: {error}.") from error
        if changes and _digest(changes) not in self._held:
            raise EngineFailed("The refactoring was changed after it had been found to hold.")
        before = {path: self._sources[path] for path in changes}
        return patches.between(before, {path: replace(before[path], content=now) for path, now in changes.items()})

    @cached_property
    def _sources(self) -> Mapping[str, patches.File]:
        """The component's modules as they were, by path relative to the root."""
        root = self.before.root
        return patches.present(root, (path.relative_to(root).as_posix() for path in source_files(self.before)))

    def _changes(self) -> dict[str, bytes]:
        """The modules that are not as they were."""
        tree = ForeignTree(self.after.root)
        now = {path: tree.read_bytes(path) for path in self._sources}
        return {path: content for path, content in now.items() if content != self._sources[path].content}

    def _api(self, trial: Workspace) -> str:
        breakages = api_breakages(self.before, trial)
        return f"changes the public API: {_named(breakages)}" if breakages else ""

    def _imports(self, trial: Workspace) -> str:
        now = _import_faults(trial)
        broken = [f"{name} ({fault})" for name, fault in now.items() if fault and not self._import_faults_before[name]]
        return f"breaks imports: {_named(broken)}" if broken else ""

    def _lint(self, trial: Workspace) -> str:
        try:
            found = new(self._linted_before, _lasting(trial))
        except ToolFailed:
            return ""  # a linter that cannot work does not speak against the change; the gate says so later
        named = _named(map(str, found))
        return f"adds findings: {named}" if named else ""

    def _tests(self, trial: Workspace) -> str:
        before, now = self._suite_before, run_suite(trial, coverage=False)
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
        with fresh_copy(self.before) as copy:
            return _import_faults(copy)

    @cached_property
    def _linted_before(self) -> list[Finding]:
        return _lasting(self.before)

    @cached_property
    def _suite_before(self) -> SuiteReport:
        if self.suite is not None:
            return self.suite
        with fresh_copy(self.before) as copy:
            return run_suite(copy, coverage=False)


def _digest(changes: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in sorted(changes.items()):
        digest.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\0".encode())
    return digest.hexdigest()


def _lasting(workspace: Workspace) -> list[Finding]:
    """What the linter finds and cannot mend: a step may leave to the next what that one will tidy up."""
    return [found for found in lint.detect(workspace, source_files(workspace)) if not found.fixable]


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
