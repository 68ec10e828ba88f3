"""A piece of work done by whichever model can."""

from __future__ import annotations

import hashlib
import time

from tta_tasks.errors import ModelUnavailable, TtaError
from tta_tasks.protocols import Workspace
from tta_tasks.settings import settings
from workers.openhands import shell
from workers.openhands.conversations import Conversation
from workers.openhands.installation import VERSION, missing
from workers.openhands.limits import FleetLimits, Wait
from workers.openhands.models import order, registry
from workers.openhands.outcome import ModelFault, Outcome
from workers.openhands.supervision import Assignment, Attempt
from workers.sandbox import detect_sandbox

#: Part of the engines' versions: change it when agents are told or given something else.
FORMAT = 2


def available() -> str:
    """Why agents cannot work on this host, or an empty string."""
    try:
        models = registry(settings())
    except TtaError as error:
        return str(error)
    if not models:
        return "no model is configured: set TTA_LLM_MODEL and TTA_LLM_API_KEY, or TTA_MODELS_FILE"
    return missing() or shell.why_unsafe(detect_sandbox(), unconfined=settings().agents_unconfined)


def version() -> str:
    """Changes with the engine and with the models it may ask."""
    try:
        models = registry(settings())
    except TtaError:
        models = ()
    known = ",".join(f"{model.name}={model.litellm}" for model in models)
    return f"{VERSION}-{hashlib.sha256(f'{FORMAT} {known}'.encode()).hexdigest()[:6]}"


def work(workspace: Workspace, conversation: Conversation, assignment: Assignment) -> Outcome:
    """Have an agent do one round of work in its conversation's tree.

    A model that fails is followed by the next one, which takes up the conversation where it stands.

    Raises:
        ModelUnavailable: No model could be asked, or none answered.
        EngineFailed: The agent broke down.
        Cancelled: Nobody waits for it any more.
    """
    chosen = settings()
    conversation.begin(workspace.root)
    taken = conversation.usage()
    if assignment.round == 1:
        workspace.spend(taken)  # by an attempt before this one
    if taken.calls >= chosen.agent_calls or taken.cost_usd >= chosen.agent_usd:
        return Outcome("", finished=False, why=f"it has taken {taken.calls} calls and {taken.cost_usd:.2f} USD already")
    limits = FleetLimits(chosen)
    faults: list[str] = []
    for model in order(registry(chosen), assignment.kind, assignment.difficulty):
        attempt = Attempt(workspace, conversation, assignment, model, chosen, limits)
        try:
            return _run_attempt(attempt)
        except (ModelFault, ModelUnavailable) as error:
            faults.append(error.message)
    raise ModelUnavailable(
        "No language model could be used: " + ("; ".join(faults) or "none is meant for this work") + "."
    )


def _run_attempt(attempt: Attempt) -> Outcome:
    """The attempt, with a place at its model, unless the model rests."""
    model, limits = attempt.model, attempt.limits
    if limits.is_resting(model.name):
        raise ModelUnavailable(f"{model.name} rests after failures")
    wait = Wait(attempt.workspace.cancelled, attempt.workspace.progress, time.monotonic() + _patience(attempt))
    with limits.place(model.name, model.max_agents, wait):
        try:
            return limits.guarded(model.name, attempt.run)
        except ModelFault as fault:
            if fault.lasting:
                limits.open(model.name)
            raise


def _patience(attempt: Attempt) -> float:
    """Seconds to wait for a place: what is left of a task's time when the agent's own is set aside."""
    return max(attempt.settings.task_timeout_s - 2 * attempt.assignment.wall_s, 60.0)
