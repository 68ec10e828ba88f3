"""One attempt of one agent: its runner in the sandbox, its requests served, what it takes kept account of."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tta_tasks.errors import Cancelled, EngineFailed, SandboxError, TransientError
from tta_tasks.foreign import ForeignTree, Refused
from tta_tasks.models import Usage
from tta_tasks.protocols import Completed, Limits, Workspace
from tta_tasks.settings import Settings
from workers.openhands.conversations import Conversation
from workers.openhands.installation import engine_python, engine_readable
from workers.openhands.limits import FleetLimits, Wait
from workers.openhands.models import LanguageModel
from workers.openhands.outcome import Outcome, outcome
from workers.openhands.rpc import RpcServer
from workers.openhands.shell import MOST_S, Shell, check_places
from workers.sandbox import tempdirs

RUNNER = Path(__file__).with_name("runner.py")
#: Seconds a runner may take beyond its own time, to come up and to leave.
MARGIN_S = 45.0
#: How often an agent is sent back in one attempt because its work does not hold.
MOST_REFUSALS = 3
#: litellm alone maps gigabytes.
RUNNER_LIMITS = Limits(memory_bytes=24 << 30, processes=512, file_bytes=256 << 20, output_bytes=64 << 10)
MILLION = 1_000_000


@dataclass(frozen=True)
class Assignment:
    """What an agent is asked for in one round."""

    kind: Literal["generation", "refactoring"]
    #: 1 to 5, the quality of model it takes.
    difficulty: int
    round: int
    #: What it is told at the beginning of a conversation, and in a later round of one.
    opening: str
    feedback: str
    #: What it may write to in its copy of the tree: with the editor, files or folders; and with commands.
    editable: tuple[Path, ...]
    writable: tuple[Path, ...]
    #: Looks at its work in the shell; answers why it does not hold, for the agent, or an empty string.
    check: Callable[[Shell], str]
    wall_s: float


@dataclass
class Attempt:
    """An agent at work with one model."""

    workspace: Workspace
    conversation: Conversation
    assignment: Assignment
    model: LanguageModel
    settings: Settings
    limits: FleetLimits
    shell: Shell = field(init=False)
    _key: str = field(init=False, repr=False)
    _before: Usage = field(init=False)
    _refusals: int = 0
    _fault: TransientError | None = None
    _over: bool = False

    def __post_init__(self) -> None:
        self._key = self.model.key(self.settings).get_secret_value()
        self._before = self.conversation.usage()
        tree, project = self.conversation.tree, self.conversation.tree / self.workspace.component.root
        self.shell = Shell(
            sandbox=self.workspace.sandbox,
            tree=tree,
            project=project,
            writable=self.assignment.writable,
            notes=self.conversation.notes,
            python=self.workspace.python,
            env={"PYTHONPATH": str(project / self.workspace.component.import_root)},
            limits=self.workspace.limits,
            readable=self.workspace.readable,
            cancelled=lambda: self._over or self.workspace.cancelled(),
        )

    def run(self) -> Outcome:
        """Let the agent work until it is done, or something ends it.

        Raises:
            ModelFault: The model is at fault.
            EngineFailed: The agent broke down.
            Cancelled: Nobody waits for it any more.
            StoreUnavailable: What the fleet shares cannot be reached.
        """
        self._until = time.monotonic() + self.assignment.wall_s
        parent = tempdirs.private("tta-agents")
        tempdirs.reap(parent)  # of workers that were killed
        handlers = {"call": self._call, "run": self._run, "stop": self._stop, "event": self._event}
        with tempdirs.create(parent) as folder, RpcServer(folder / "rpc.sock", handlers).serving() as server:
            try:
                done = self._started(server)
            finally:
                self._over = True
        said = self._said(done)
        self._account(said)
        if self._fault is not None:
            raise self._fault
        if done.stopped == "cancelled" or self.workspace.cancelled():
            raise Cancelled("The run was cancelled.")
        return outcome(self.model.name, said)

    def _started(self, server: RpcServer) -> Completed:
        """The runner, after its end."""
        python = engine_python()
        if python is None:
            raise EngineFailed("OpenHands is not installed here.", "Run `tta engines install openhands`.")
        try:
            check_places(self.conversation.tree, self.assignment.editable)
        except SandboxError as error:
            raise EngineFailed(error.message) from error
        return self.workspace.sandbox.run(
            [python, "-I", RUNNER],
            cwd=self.conversation.tree,
            # The editor replaces files, so it needs their folders; it keeps to what is editable by itself.
            writable=[server.path.parent, self.conversation.record, *self._folders()],
            readable=engine_readable(),
            limits=Limits(**{**vars(RUNNER_LIMITS), "wall_s": self.assignment.wall_s + MARGIN_S}),
            stdin=json.dumps(self._job(server)) + "\n",
            network=True,
            cancelled=self.workspace.cancelled,
        )

    def _folders(self) -> list[Path]:
        """What is editable: folders, and those of files."""
        tree = ForeignTree(self.conversation.tree)
        editable = self.assignment.editable
        return list(dict.fromkeys(path if tree.is_folder(path) else path.parent for path in editable))

    def _job(self, server: RpcServer) -> Mapping[str, object]:
        left = self.settings.agent_calls - self._before.calls
        return {
            "socket": str(server.path),
            "token": server.token,
            "id": self.conversation.id,
            "conversation": str(self.conversation.record),
            "tree": str(self.conversation.tree),
            "editable": [str(path) for path in self.assignment.editable],
            "round": self.assignment.round,
            "opening": self.assignment.opening,
            "feedback": self.assignment.feedback,
            "wall_s": self.assignment.wall_s,
            "calls": max(left, 1),
            "usd": self.settings.agent_usd,
            # Never shorter than what it waits for: a stop hook that is late lets the agent go.
            "stop_timeout_s": int(MOST_S + MARGIN_S),
            "model": {
                **self.model.model_dump(include={"litellm", "base_url", "context", "timeout_s"}),
                **self.model.model_dump(include={"attempts", "retry_wait_s"}),
                "key": self._key,
                "input_usd": None if self.model.input_usd is None else self.model.input_usd / MILLION,
                "output_usd": None if self.model.output_usd is None else self.model.output_usd / MILLION,
            },
        }

    def _said(self, done: Completed) -> dict[str, Any]:
        """The runner's result; made up where it did not come to one."""
        try:
            said = json.loads(self._redacted(done.stdout.splitlines()[-1]))
        except (IndexError, ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or "status" not in said:
            crash = self._redacted(done.stderr.strip())[-500:] or f"it ended with status {done.returncode}"
            stopped = "time" if done.stopped == "time" else ""
            return {"status": "crashed", "stopped": stopped, "error": {"code": "crash", "detail": crash}}
        return said

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    # -- what the runner requests --------------------------------------------------------------------------------------

    def _call(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """May the model be called? Waits for its turn."""
        try:
            spent = self._account(request["totals"])
            if self.workspace.cancelled():
                return {"stop": "cancelled"}
            if self._tokens() > self.settings.agent_tokens:
                return {"stop": "tokens"}
            if spent >= self.settings.run_usd:
                return {"stop": "run"}
            wait = Wait(self.shell.cancelled, self.workspace.progress, self._until)
            allowed = self.limits.turn(self.model.name, self.model.requests_per_minute, wait)
        except TransientError as error:
            self._fault = error
            return {"stop": "fault"}
        return {"stop": "" if allowed else "time"}

    def _run(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """A command of the agent's terminal."""
        if request.get("reset"):
            self.shell.reset()
            if not request["command"]:
                return {"output": "[reset]", "exit_code": 0, "timed_out": False}
        return self.shell.answer(str(request["command"]), request.get("timeout_s"))

    def _stop(self, _request: Mapping[str, Any]) -> Mapping[str, object]:
        """May the agent stop?"""
        if self._refusals >= MOST_REFUSALS:
            return {"ok": True}
        try:
            reason = self.assignment.check(self.shell)
        except SandboxError as error:
            reason = error.message
        self._refusals += bool(reason)
        return {"ok": not reason, "reason": reason}

    def _event(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """Something the agent does."""
        arguments = " ".join(self._redacted(str(request["arguments"])).split())
        self.workspace.progress(f"{self.model.name}: {request['tool']} {arguments}"[:160])
        return {}

    # -- account ---------------------------------------------------------------------------------------------------

    def _account(self, totals: Mapping[str, Any]) -> float:
        """Keep account of what the conversation has taken; answer what its run has spent, in US dollars."""
        last = self.conversation.usage()
        now = Usage(
            models=tuple(dict.fromkeys((*last.models, self.model.name))),
            attempts=self._before.attempts + 1,
            # An attempt that was cut off may have lost the last of them.
            calls=max(last.calls, int(totals.get("calls", 0))),
            prompt_tokens=max(last.prompt_tokens, int(totals.get("prompt_tokens", 0))),
            completion_tokens=max(last.completion_tokens, int(totals.get("completion_tokens", 0))),
            cost_usd=max(last.cost_usd, float(totals.get("cost_usd", 0.0))),
        )
        self.conversation.save_usage(now)
        self.workspace.spend(difference(now, last))
        return self.limits.spend(self.workspace.run_id or self.conversation.id, now.cost_usd - last.cost_usd)

    def _tokens(self) -> int:
        usage = self.conversation.usage()
        return usage.prompt_tokens + usage.completion_tokens


def difference(now: Usage, before: Usage) -> Usage:
    """What was taken in between."""
    return Usage(
        models=now.models,
        calls=now.calls - before.calls,
        attempts=now.attempts - before.attempts,
        prompt_tokens=now.prompt_tokens - before.prompt_tokens,
        completion_tokens=now.completion_tokens - before.completion_tokens,
        cost_usd=now.cost_usd - before.cost_usd,
    )


#: Bytes of the largest file that is taken for source, and of all that an agent has changed.
MOST_SOURCE, MOST_CHANGED = 1 << 20, 32 << 20


def changed(before: Path, after: Path, folders: Sequence[str]) -> dict[str, bytes]:
    """Files below ``folders`` of ``after`` that are not so in ``before``: path relative to it -> content.

    Symbolic links, what is no file, and what is too large to be source, are left out.

    Raises:
        EngineFailed: There is too much to look at.
    """
    tree, original = ForeignTree(after), ForeignTree(before)
    found: dict[str, bytes] = {}
    left = MOST_CHANGED
    try:
        for name in dict.fromkeys(name for folder in folders for name in _sources(tree, folder)):
            content = _source(tree, name)
            if content is None or content == _source(original, name):
                continue
            found[name] = content
            left -= len(content)
            if left < 0:
                raise Refused(name, f"with it, more than {MOST_CHANGED:,} bytes were changed", errno.EFBIG)
    except OSError as error:
        raise EngineFailed(f"What the agent left cannot be looked at: {error}.") from error
    return found


def _sources(tree: ForeignTree, place: str) -> Iterator[str]:
    """The Python files below a folder, or a file itself."""
    if tree.is_file(place):
        yield place
    else:
        yield from (found.path for found in tree.files("*.py", place))


def _source(tree: ForeignTree, name: str) -> bytes | None:
    """The content of a file; ``None`` where there is none that could be source."""
    try:
        return tree.read_bytes(name, max_bytes=MOST_SOURCE)
    except OSError:
        return None
