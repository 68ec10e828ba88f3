"""Tests by an OpenHands agent: one conversation a module, continued from round to round and attempt to attempt."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import CandidateTests, GenerationJob
from tta_tasks.settings import settings
from workers.openhands import agents, prompts
from workers.openhands.conversations import Conversation, conversation
from workers.openhands.shell import Shell
from workers.openhands.supervision import Assignment, changed

#: What pytest takes for a file with tests.
TESTS = ("test_*.py", "*_test.py")
#: Share of an agent's time that acceptance needs not; it has to hold for several rounds.
ROUNDS = 2
#: Characters of a failing run that go back to the agent.
MOST_SAID = 4000
#: Statements and branches not yet covered, above which it takes a better model.
HARD, MEDIUM = 150, 50


class OpenHandsGenerator:
    """An agent reads the module, writes tests, runs them, and hears what acceptance made of them."""

    name = "openhands"

    @property
    def version(self) -> str:
        """Of the engine, and of the models it may ask."""
        return agents.version()

    @property
    def budget_s(self) -> float:
        """An agent thinks longer than a search takes."""
        return settings().agent_wall_s * ROUNDS

    def available(self) -> str:
        """Why it cannot work on this host, or an empty string."""
        return agents.available()

    def generate(self, job: GenerationJob) -> Sequence[CandidateTests]:
        """Have an agent write tests; what it has written is proposed even when it did not come to its end.

        Raises:
            EngineFailed: It wrote nothing, or broke down.
            ModelUnavailable: No model could be used.
            Cancelled: Nobody waits for it any more.
        """
        with conversation(settings(), job.workspace.task_id) as talk:
            assignment = _assignment(job, talk)
            outcome = agents.work(job.workspace, talk, assignment)
            proposed = _proposed(job, talk)
        if not proposed and job.round == 1:
            why = f"; {outcome.why}" if outcome.why else ""
            raise EngineFailed(f"The agent wrote no tests{why}.")
        return proposed


def _assignment(job: GenerationJob, talk: Conversation) -> Assignment:
    component = job.workspace.component
    project = talk.tree / component.root
    talk.begin(job.workspace.root)
    tests = project / component.tests
    output = project / job.output_path
    for folder in (tests, output.parent):
        _make(ForeignTree(talk.tree), folder)
    folders = dict.fromkeys((tests, output.parent))
    writable = tuple(path for path in folders if not any(path.is_relative_to(each) for each in folders if each != path))
    command = _command(project, [job.output_path])
    return Assignment(
        kind="generation",
        difficulty=_difficulty(job),
        round=job.round,
        opening=prompts.generation(job, talk.tree, command),
        feedback=prompts.further(job, talk.tree),
        editable=writable,
        writable=writable,
        check=lambda shell: _why_not(job, talk, shell),
        wall_s=min(job.budget_s, settings().agent_wall_s),
    )


def _make(tree: ForeignTree, folder: Path) -> None:
    try:
        tree.make_folder(folder)
    except OSError as error:
        name = folder.relative_to(tree.root).as_posix()
        raise EngineFailed(f"The agent cannot write to {name}: {error.strerror}.") from error


def _difficulty(job: GenerationJob) -> int:
    coverage = job.coverage
    missing = coverage.statements - coverage.covered_statements + coverage.branches - coverage.covered_branches
    return 4 if missing > HARD else 3 if missing > MEDIUM else 2


def _command(project: Path, files: Sequence[str]) -> str:
    words = ["python", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files]
    return f"cd {shlex.quote(str(project))} && {shlex.join(words)}"


def _why_not(job: GenerationJob, talk: Conversation, shell: Shell) -> str:
    """Why the agent must not stop yet."""
    files = _new(job, talk)
    if not files:
        return f"There is nothing new. Write your tests to {job.output_path}; if there is nothing to test, say so."
    done = shell.run(_command(shell.project, sorted(files)))
    if done.ok:
        return ""
    return f"Your tests do not pass. Mend them, or remove those that cannot be mended:\n{done.stdout[-MOST_SAID:]}"


def _new(job: GenerationJob, talk: Conversation) -> Mapping[str, str]:
    """Test files of the agent that were not handed in as they are: path relative to the project -> source."""
    root, base = job.workspace.root, PurePosixPath(job.workspace.component.root)
    known = _handed_in(job, talk)
    folders = {(base / each).as_posix() for each in (job.workspace.component.tests, _folder(job))}
    files: dict[str, str] = {}
    for name, content in changed(root, talk.tree, sorted(folders)).items():
        path = PurePosixPath(name)
        added = not ForeignTree(root).exists(name) and any(fnmatch(path.name, pattern) for pattern in TESTS)
        if added and known.get(name) != hashlib.sha256(content).hexdigest():
            with suppress(UnicodeDecodeError):
                files[path.relative_to(base).as_posix()] = content.decode()
    return files


def _folder(job: GenerationJob) -> str:
    return PurePosixPath(job.output_path).parent.as_posix()


def _handed_in(job: GenerationJob, talk: Conversation) -> dict[str, str]:
    """What earlier rounds have handed in. An attempt that begins anew has to hand in everything again."""
    return talk.proposed() if job.round > 1 else {}


def _proposed(job: GenerationJob, talk: Conversation) -> list[CandidateTests]:
    files, known = _new(job, talk), _handed_in(job, talk)
    base = PurePosixPath(job.workspace.component.root)
    names = {path: (base / path).as_posix() for path in files}
    digests = {names[path]: hashlib.sha256(source.encode()).hexdigest() for path, source in files.items()}
    talk.propose(known | digests)
    # A file that an earlier round has handed in comes back under the name that this round was given.
    return [CandidateTests(job.output_path if names[path] in known else path, source) for path, source in files.items()]
