"""The refactorer that needs no key and no network: well-kept tools, one step after the other, each verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import RefactoringStep
from tta_tasks.protocols import RefactoringOutcome, Workspace
from workers.component import quality_tools
from workers.refactorers import steps

#: Most verifications of one step: when it does not hold as a whole, its halves are tried, and their halves.
MAX_VERIFICATIONS = 8

STEPS: Mapping[str, Callable[[Workspace, list[Path]], steps.Done]] = {
    "pyupgrade": steps.modernise,
    "ruff check": steps.fix,
    "ruff format": steps.format,
}


class EmbeddedRefactorer:
    """pyupgrade, ruff's safe fixes and ruff's formatter, under the repository's own configuration."""

    name = "embedded"
    version = f"1+ruff-{version('ruff')}+pyupgrade-{version('pyupgrade')}"

    def available(self) -> str:
        """Always: its tools are installed with it."""
        return ""

    def refactor(self, workspace: Workspace, verify: Callable[[], str]) -> RefactoringOutcome:
        """Change the component's modules, never its tests; what does not hold is taken back.

        Args:
            workspace: The tree to change.
            verify: Answers why the tree does not hold as it is now, or an empty string.
        """
        taken: list[RefactoringStep] = []
        for name in STEPS:
            if workspace.cancelled():
                break
            workspace.progress(f"refactoring: {name}")
            taken += _take(name, workspace, verify)
        return RefactoringOutcome(tuple(taken))


def _take(name: str, workspace: Workspace, verify: Callable[[], str]) -> Iterator[RefactoringStep]:
    """Run one step, keep what holds of it, and say what became of it."""
    files = quality_tools.source_files(workspace)
    if not files:  # with no file named, ruff would take the whole folder
        return
    tree = ForeignTree(workspace.root)
    before = _read(tree, files)
    try:
        done = STEPS[name](workspace, files)
    except EngineFailed as error:
        _write(tree, before)
        yield RefactoringStep(name=name, outcome="dropped", detail=error.message)
        return
    after = {file: content for file, content in _read(tree, files).items() if content != before[file]}
    if not after:
        yield RefactoringStep(name=name, outcome="nothing", detail=done.idle or "nothing to change")
        return
    trial = _StepTrial(tree, before, after, verify)
    kept, dropped = trial.run()
    if kept:
        yield RefactoringStep(name=name, outcome="kept", detail=_detail(done, kept), files=_names(workspace, kept))
    for reason, group in dropped.items():
        yield RefactoringStep(name=name, outcome="dropped", detail=reason, files=_names(workspace, group))


@dataclass
class _StepTrial:
    """Which of a step's changes hold."""

    tree: ForeignTree
    before: Mapping[Path, bytes]
    after: Mapping[Path, bytes]
    verify: Callable[[], str]

    def run(self) -> tuple[list[Path], dict[str, list[Path]]]:
        """Leave the tree with the changes that hold; answer them, and the others by the reason they do not."""
        _write(self.tree, {file: self.before[file] for file in self.after})
        kept: list[Path] = []
        dropped: dict[str, list[Path]] = {}
        groups = [sorted(self.after)]
        verifications = 0
        while groups:
            group = groups.pop(0)
            _write(self.tree, {file: self.after[file] for file in group})
            reason = self.verify()
            verifications += 1
            if not reason:
                kept += group
                continue
            _write(self.tree, {file: self.before[file] for file in group})
            if len(group) > 1 and verifications + len(groups) + 2 <= MAX_VERIFICATIONS:
                middle = len(group) // 2
                groups = [group[:middle], group[middle:], *groups]
            else:
                dropped.setdefault(reason, []).extend(group)
        return kept, dropped


def _read(tree: ForeignTree, files: Iterable[Path]) -> dict[Path, bytes]:
    return {file: tree.read_bytes(file) for file in files}


def _write(tree: ForeignTree, contents: Mapping[Path, bytes]) -> None:
    for file, content in contents.items():
        tree.write_bytes(file, content)


def _names(workspace: Workspace, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(sorted(file.relative_to(workspace.root).as_posix() for file in files))


def _detail(done: steps.Done, kept: list[Path]) -> str:
    """``6 fixes: UP032 3, SIM108 2, I001 1``; without counts, how many files changed."""
    rules = sum((done.fixes.get(file, Counter()) for file in kept), Counter[str]())
    if not rules:
        return f"{len(kept)} file{'s' * (len(kept) != 1)} rewritten"
    ranked = sorted(rules.items(), key=lambda item: (-item[1], item[0]))
    return f"{rules.total()} fix{'es' * (rules.total() != 1)}: " + ", ".join(f"{rule} {n}" for rule, n in ranked)
