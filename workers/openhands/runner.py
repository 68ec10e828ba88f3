"""One attempt of one agent; runs in the engine's own environment, inside the worker's sandbox.

The standard library and ``openhands`` only. The job, with the model's key, is one JSON object on standard input; the
result is the one line on standard output. In between the worker is asked through its RPC socket: for
permission before each call of the model, for each command of the terminal, and whether the agent may stop.

As ``runner.py stop`` it is the agent's stop hook: it asks the worker whether the work holds.
"""

from __future__ import annotations

import os
import sys

os.environ |= {  # before the import of openhands and litellm
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY": "False",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "OH_PERSISTENCE_DIR": os.path.join(os.environ.get("HOME", "/tmp"), "openhands"),  # noqa: PTH118, S108
    "LOG_LEVEL": "ERROR",
    "LOG_JSON": "1",
    "POSTHOG_DISABLED": "1",
    "DO_NOT_TRACK": "1",
}

import asyncio
import ctypes
import json
import signal
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_DUMPABLE = 4
SOCKET, TOKEN = "TTA_RPC_SOCKET", "TTA_RPC_TOKEN"
#: How a provider says that waiting will not help: the account, not the rate, is used up.
SPENT = ("insufficient_quota", "exceeded your current quota", "insufficient balance", "credit balance is too low")
#: Longest wait for the worker to answer: it may wait for the model's turn, or run a long command.
PATIENCE_S = 3600.0
#: Characters of an event that are passed on.
SHOWN = 160


def call_worker(op: str, **fields: object) -> dict[str, Any]:
    """Send the worker a request and return its reply; one connection each."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        _connect(connection, Path(os.environ[SOCKET]))
        request = {"token": os.environ[TOKEN], "op": op, **fields}
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("r", encoding="utf-8") as answer:
            reply: dict[str, Any] = json.loads(answer.readline())
    return reply


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect by way of the folder's descriptor: the address of a socket is short, a path may be long."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def stop_hook() -> None:
    """Refuse to let the agent stop while its work does not hold."""
    reply = call_worker("stop")
    if reply["ok"]:
        return
    print(json.dumps({"decision": "deny", "reason": reply["reason"], "additionalContext": reply["reason"]}))  # noqa: T201 - SDK's protocol
    sys.exit(2)


def main() -> None:
    """Do the job on standard input."""
    result_stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no result
    with suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    job = json.loads(sys.stdin.readline())
    os.environ[SOCKET], os.environ[TOKEN] = job["socket"], job["token"]
    result = AgentRun(job).run()
    result_stream.write(json.dumps(result) + "\n")
    result_stream.flush()
    os._exit(0)  # a thread may wait for a command that nobody needs any more; the sandbox ends with us


class AgentRun:
    """An agent at work, from where its conversation stands."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.stopped = ""
        self.error: dict[str, Any] = {}
        self.conversation = self._conversation()

    def run(self) -> dict[str, Any]:
        """Work until the agent is done, stopped or failed; answer what came of it."""
        from openhands.sdk.conversation.exceptions import ConversationRunError  # noqa: PLC0415 - see _conversation

        try:
            if self._prompted():
                # Not asyncio.run(): it would wait for the thread of a command that cannot be interrupted.
                asyncio.new_event_loop().run_until_complete(self._work())
        except ConversationRunError as error:
            self._failed(error.original_exception)
        except Exception as error:  # noqa: BLE001 - whatever it was, the worker is told
            self._failed(error)
        status = self.conversation.state.execution_status.value
        return {"status": status, "stopped": self.stopped, "error": self.error, **self.totals()}

    def totals(self) -> dict[str, Any]:
        """What the whole conversation has taken so far."""
        metrics = self.conversation.conversation_stats.get_combined_metrics()
        usage = metrics.accumulated_token_usage
        return {
            "calls": len(metrics.token_usages),
            "prompt_tokens": usage.prompt_tokens if usage else 0,
            "completion_tokens": usage.completion_tokens if usage else 0,
            "cost_usd": metrics.accumulated_cost,
        }

    def stop(self, why: str) -> None:
        """End the attempt; the conversation can be taken up again."""
        self.stopped = self.stopped or why
        self.conversation.interrupt()

    def _prompted(self) -> bool:
        """Say what is to be done, unless that was said in an earlier attempt; answer whether anything is left to do."""
        from openhands.sdk.event import MessageEvent  # noqa: PLC0415 - see _conversation

        said = sum(isinstance(event, MessageEvent) and event.source == "user" for event in self._events())
        if said < self.job["round"]:
            self.conversation.send_message(self.job["feedback"] if said else self.job["opening"])
            return True
        return bool(self.conversation.state.execution_status.value != "finished")

    def _events(self) -> list[Any]:
        return list(self.conversation.state.events)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, "ended")
        loop.call_later(self.job["wall_s"], self.stop, "time")
        await self.conversation.arun()

    def _failed(self, error: BaseException | None) -> None:
        """Keep what the conversation itself said of its failure, where it did."""
        if error is not None and not self.error:
            self.error = {"code": type(error).__name__, "detail": str(error)[:2000], "kind": "", "retryable": False}

    def _on_event(self, event: Any) -> None:  # noqa: ANN401 - the SDK's events
        from openhands.sdk.event import ActionEvent  # noqa: PLC0415 - see _conversation
        from openhands.sdk.event.conversation_error import ConversationErrorEvent  # noqa: PLC0415

        if isinstance(event, ConversationErrorEvent):
            kind = event.classification
            self.error = {
                "code": event.code,
                "detail": event.detail[:2000],
                "kind": kind.kind.value if kind else "",
                "retryable": bool(kind and kind.retryable),
            }
        elif isinstance(event, ActionEvent):
            arguments = (event.tool_call.arguments or "")[:SHOWN]
            call_worker("event", tool=event.tool_name, arguments=arguments, totals=self.totals())

    def _conversation(self) -> Any:  # noqa: ANN401 - the SDK takes seconds to import, and the stop hook needs none of it
        from openhands.sdk import Agent, LLMSummarizingCondenser, LocalConversation, Tool  # noqa: PLC0415
        from openhands.sdk.hooks import HookConfig  # noqa: PLC0415
        from openhands.sdk.hooks.config import HookDefinition, HookMatcher  # noqa: PLC0415

        job = self.job
        llm = _model(self, job["model"])
        tools = _tools(Path(job["tree"]), job["editable"])
        agent = Agent(
            llm=llm,
            tools=[Tool(name=name) for name in tools],
            include_default_tools=["FinishTool", "ThinkTool"],
            system_prompt_kwargs={"cli_mode": True},
            condenser=LLMSummarizingCondenser(
                llm=llm.model_copy(update={"usage_id": "condenser"}), max_size=120, keep_first=4
            ),
        )
        hook = HookDefinition(command=f'"{sys.executable}" -I "{__file__}" stop', timeout=job["stop_timeout_s"])
        return LocalConversation(
            agent=agent,
            workspace=job["tree"],
            persistence_dir=job["conversation"],
            conversation_id=uuid.UUID(job["id"]),
            callbacks=[self._on_event],
            visualizer=None,
            max_iteration_per_run=job["calls"],
            max_budget_per_run=job["usd"],
            stuck_detection=True,
            # Always one of ours: without, the SDK would run those it finds in the repository.
            hook_config=HookConfig(stop=[HookMatcher(hooks=[hook])]),
            delete_on_close=False,
        )


def _model(agent_run: AgentRun, wanted: dict[str, Any]) -> Any:  # noqa: ANN401 - the SDK's LLM
    """The model; the worker is asked before each call, retries among them."""
    from openhands.sdk import LLM  # noqa: PLC0415 - see AgentRun._conversation
    from openhands.sdk.llm import llm as calls  # noqa: PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    # Where all calls go through. A subclass of LLM would not do: the SDK keeps no account of one, and no budget.
    completion, acompletion = calls.litellm_completion, calls.litellm_acompletion

    async def permitted_acompletion(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        await asyncio.to_thread(_permit, agent_run)
        if agent_run.stopped:
            await asyncio.sleep(PATIENCE_S)  # until the interrupt comes
        try:
            return await acompletion(*args, **kwargs)
        except Exception as error:
            _redact(error, wanted["key"])
            if not any(phrase in str(error).lower() for phrase in SPENT):
                raise
            # To the SDK it is a rate like any other, worth waiting for.
            agent_run.error = {"code": "Quota", "detail": str(error)[:2000], "kind": "quota", "retryable": False}
            agent_run.stop("quota")
            await asyncio.sleep(PATIENCE_S)

    def permitted_completion(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        _permit(agent_run)
        return completion(*args, **kwargs)

    calls.litellm_completion, calls.litellm_acompletion = permitted_completion, permitted_acompletion
    return LLM(
        model=wanted["litellm"],
        base_url=wanted["base_url"] or None,
        # Servers of one's own need no key, but litellm does not ask without.
        api_key=SecretStr(wanted["key"] or "none") if wanted["key"] or wanted["base_url"] else None,
        usage_id="agent",
        api_mode="chat",
        timeout=wanted["timeout_s"],
        num_retries=wanted["attempts"],
        retry_min_wait=wanted["retry_wait_s"],
        retry_max_wait=wanted["retry_wait_s"] * 8,
        retry_multiplier=2.0,
        max_input_tokens=wanted["context"] or None,
        input_cost_per_token=wanted["input_usd"],
        output_cost_per_token=wanted["output_usd"],
    )


def _redact(error: Exception, key: str) -> None:
    """Take the key out of what a provider says, before the SDK writes it down."""
    if key and key in str(error):
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, value.replace(key, "[key]"))
        error.args = tuple(value.replace(key, "[key]") if isinstance(value, str) else value for value in error.args)


def _permit(agent_run: AgentRun) -> None:
    """Wait until the model may be called; where it may not, end the attempt."""
    if why := call_worker("call", totals=agent_run.totals())["stop"]:
        agent_run.stop(why)


def _tools(tree: Path, editable: list[str]) -> list[str]:
    """Register the terminal whose commands the worker runs, and the editor that keeps to what may be written."""
    from openhands.sdk.tool import ToolExecutor, register_tool  # noqa: PLC0415 - see AgentRun._conversation
    from openhands.tools.file_editor.definition import FileEditorObservation, FileEditorTool  # noqa: PLC0415
    from openhands.tools.file_editor.impl import FileEditorExecutor  # noqa: PLC0415
    from openhands.tools.terminal.definition import TerminalObservation, TerminalTool  # noqa: PLC0415
    from openhands.tools.terminal.metadata import CmdOutputMetadata  # noqa: PLC0415

    allowed = [Path(path) for path in editable]

    class Terminal(ToolExecutor):
        def __call__(self, action: Any, conversation: Any = None) -> Any:  # noqa: ANN401, ARG002
            if action.is_input:
                text = "No command is running: each one runs to its end before it is answered."
                return TerminalObservation.from_text(text=text, command=action.command, is_error=True)
            reply = call_worker("run", command=action.command, timeout_s=action.timeout, reset=action.reset)
            return TerminalObservation.from_text(
                text=reply["output"],
                command=action.command,
                exit_code=reply["exit_code"],
                timeout=reply["timed_out"],
                is_error=reply["timed_out"],
                metadata=CmdOutputMetadata(exit_code=reply["exit_code"]),
            )

    class Editor(FileEditorExecutor):
        def __call__(self, action: Any, conversation: Any = None) -> Any:  # noqa: ANN401
            path = Path(action.path).resolve()
            why_not = ""
            if not path.is_relative_to(tree):
                why_not = f"{path} is outside of {tree}."
            elif action.command != "view" and not any(path.is_relative_to(each) for each in allowed):
                why_not = f"{path} is read-only here. You may write to: {', '.join(editable)}."
            if why_not:
                return FileEditorObservation.from_text(text=why_not, command=action.command, is_error=True)
            return super().__call__(action, conversation)

    class SandboxedTerminal(TerminalTool):
        name = "terminal"

        @classmethod
        def create(cls, conv_state: Any, **_: Any) -> Any:  # noqa: ANN401
            (tool,) = super().create(conv_state, executor=Terminal())
            return [tool.model_copy(update={"description": TERMINAL})]

    class GuardedEditor(FileEditorTool):
        name = "file_editor"

        @classmethod
        def create(cls, conv_state: Any, **_: Any) -> Any:  # noqa: ANN401
            (tool,) = super().create(conv_state)
            return [tool.model_copy(update={"executor": Editor(workspace_root=str(tree))})]

    tools = {"sandboxed_terminal": SandboxedTerminal, "guarded_editor": GuardedEditor}
    for name, tool in tools.items():
        register_tool(name, tool)
    return list(tools)


TERMINAL = """Run a bash command and get its output.

* One command at a time; join several with && or ;. The working directory and exported variables are kept.
* It runs in a sandbox: no network, no way out of the workspace, and only some of its folders can be written to.
* A command runs to its end before it is answered. Nothing it leaves in the background survives it, and there is no
  input to give to a running program. Use `timeout` (seconds) for commands that take long.
* Of long output, the end is kept."""


if __name__ == "__main__":
    stop_hook() if sys.argv[1:] == ["stop"] else main()
