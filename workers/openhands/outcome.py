"""What came of an attempt: the agent's end, or the model's fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tta_tasks.errors import EngineFailed, TtaError


class ModelFault(TtaError):
    """A model does not answer as it should; another one may.

    Args:
        message: What happened.
        lasting: Whether waiting will hardly mend it: nobody should ask that model for a while.
        counts: Whether it speaks against the model, rather than against what it was asked.
    """

    def __init__(self, message: str, *, lasting: bool = False, counts: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.counts = counts


@dataclass(frozen=True)
class Outcome:
    """An agent that was at work, and what ended it."""

    #: The model's name.
    model: str
    #: Whether the agent said it was done, and its work held as far as it could be tried at once.
    finished: bool
    #: What else ended it, for a person; what it has written so far may be good.
    why: str = ""


#: The SDK's classification -> what to say of the model.
_FAULTS = {
    "auth": ("refused the key", True, True),
    "quota": ("has no credit left", True, True),
    "rate_limit": ("answers too many requests (429), retries included", False, True),
    "transient": ("does not answer", False, True),
    "config": ("refused the request", False, False),
}
#: Codes the classification does not cover, or blames on the agent.
_CODES = {
    "LLMServiceUnavailableError": "transient",
    "LLMNoResponseError": "transient",
    "LLMTimeoutError": "transient",
    "LLMRateLimitError": "rate_limit",
    "LLMAuthenticationError": "auth",
    "LLMBadRequestError": "config",
    "NoCondensationAvailableException": "context",
    "LLMContextWindowExceedError": "context",
}
#: Why the worker, or a bound, ended an attempt.
BOUNDS = {
    "time": "its time was up",
    "tokens": "its tokens were used up",
    "run": "the run's money was spent",
    "MaxIterationsReached": "its calls were used up",
    "MaxBudgetReached": "its money was spent",
}


def outcome(model: str, said: Mapping[str, Any]) -> Outcome:
    """Read a runner's result.

    Raises:
        ModelFault: The model is at fault.
        EngineFailed: The agent broke down.
    """
    error: Mapping[str, Any] = said.get("error") or {}
    stopped = str(said.get("stopped") or "")
    code = str(error.get("code") or "")
    if why := BOUNDS.get(stopped) or BOUNDS.get(code):
        return Outcome(model, finished=False, why=why)
    if said["status"] == "finished":
        return Outcome(model, finished=True)
    if said["status"] == "stuck":
        return Outcome(model, finished=False, why="it repeated itself")
    kind = _CODES.get(code) or str(error.get("kind") or "")
    detail = " ".join(str(error.get("detail") or "").split())[:300]
    if kind == "context":
        raise ModelFault(f"{model}: the conversation does not fit into its context ({detail}).", counts=False)
    if kind in _FAULTS:
        text, lasting, counts = _FAULTS[kind]
        raise ModelFault(f"{model} {text}: {detail}", lasting=lasting, counts=counts)
    raise EngineFailed(f"The agent broke down ({code or said['status']}): {detail or 'it said no more'}.")
