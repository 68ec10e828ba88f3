"""Refactoring by an OpenHands agent, held against the same verification as everybody's."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import RefactoringStep
from tta_tasks.protocols import RefactoringOutcome, Workspace
from tta_tasks.settings import settings
from workers.component import quality_tools
from workers.openhands import agents, prompts
from workers.openhands.conversations import Conversation, conversation
from workers.openhands.outcome import Outcome
from workers.openhands.shell import Shell
from workers.openhands.supervision import Assignment, changed

#: How often it may try again when its change does not hold.
MOST_ROUNDS = 3
#: Characters of a failing run that go back to the agent.
MOST_SAID = 4000
#: The quality of model that changing source takes.
DIFFICULTY = 4
#: pytest's status when there is nothing to run.
NO_TESTS = 5


class OpenHandsRefactorer:
    """An agent changes the source; what changes behaviour goes back to it, and in the end is dropped."""

    name = "openhands"

    @property
    def version(self) -> str:
        """Of the engine, and of the models it may ask."""
        return agents.version()

    def available(self) -> str:
        """Why it cannot work on this host, or an empty string."""
        return agents.available()

    def refactor(self, workspace: Workspace, verify: Callable[[], str]) -> RefactoringOutcome:
        """Have an agent refactor; keep what it changed when that holds as a whole.

        Raises:
            EngineFailed: It broke down.
            ModelUnavailable: No model could be used.
            Cancelled: Nobody waits for it any more.
        """
        with conversation(settings(), workspace.task_id) as talk:
            return RefactoringOutcome((_Work(workspace, verify, talk).done(),))


@dataclass
class _Work:
    workspace: Workspace
    verify: Callable[[], str]
    talk: Conversation

    def done(self) -> RefactoringStep:
        """Round after round, until it holds."""
        names = quality_tools.names(self.workspace, quality_tools.source_files(self.workspace))
        tree = ForeignTree(self.workspace.root)
        before = {name: tree.read_bytes(self.workspace.project / name) for name in names}
        reason = ""
        for round_ in range(1, MOST_ROUNDS + 1):
            outcome = agents.work(self.workspace, self.talk, self._assignment(round_, reason, names))
            files = self._changed(names, before)
            if not files:
                return RefactoringStep(name="openhands", outcome="nothing", detail=_ended(outcome))
            self._write(files)
            if not (reason := self.verify()):
                detail = f"{len(files)} file{'s' * (len(files) != 1)} rewritten in {round_} round{'s' * (round_ != 1)}"
                return RefactoringStep(name="openhands", outcome="kept", detail=detail, files=self._names(files))
            self._write(before)
        return RefactoringStep(name="openhands", outcome="dropped", detail=reason, files=self._names(files))

    def _assignment(self, round_: int, reason: str, names: Sequence[str]) -> Assignment:
        self.talk.begin(self.workspace.root)
        project = self.talk.tree / self.workspace.component.root
        return Assignment(
            kind="refactoring",
            difficulty=DIFFICULTY,
            round=round_,
            opening=prompts.refactoring(self.workspace, self.talk.tree, self._command(project)),
            feedback=prompts.REFUSED.format(reason=reason),
            editable=tuple(project / name for name in names),
            writable=tuple(dict.fromkeys(_writable(project / name, project) for name in names)),
            check=self._why_not,
            wall_s=settings().agent_wall_s,
        )

    def _command(self, project: Path) -> str:
        words = [
            "python",
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            self.workspace.component.tests,
        ]
        return f"cd {shlex.quote(str(project))} && {shlex.join(words)}"

    def _why_not(self, shell: Shell) -> str:
        """Why the agent must not stop yet; a component without tests has none to pass."""
        if not ForeignTree(shell.tree).exists(shell.project / self.workspace.component.tests):
            return ""
        done = shell.run(self._command(shell.project))
        if done.ok or done.returncode == NO_TESTS:
            return ""
        return f"The tests do not pass:\n{done.stdout[-MOST_SAID:]}"

    def _changed(self, names: Sequence[str], before: dict[str, bytes]) -> dict[str, bytes]:
        folder = Path(self.workspace.component.root)
        files = changed(self.workspace.root, self.talk.tree, [(folder / name).as_posix() for name in names])
        return {name: files[path] for name in before if (path := (folder / name).as_posix()) in files}

    def _write(self, files: dict[str, bytes]) -> None:
        tree = ForeignTree(self.workspace.root)
        for name, content in files.items():
            tree.write_bytes(self.workspace.project / name, content)

    def _names(self, files: dict[str, bytes]) -> tuple[str, ...]:
        folder = Path(self.workspace.component.root)
        return tuple(sorted((folder / name).as_posix() for name in files))


def _writable(file: Path, project: Path) -> Path:
    """What a command may write to, to change ``file``: its package, but never the project with its tests."""
    return file if file.parent == project else file.parent


def _ended(outcome: Outcome) -> str:
    return f"the agent changed nothing; {outcome.why}" if outcome.why else "the agent found nothing worth changing"
