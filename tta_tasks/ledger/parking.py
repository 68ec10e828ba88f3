"""Deployments that wait for their time, or for a person, without a worker.

A parked task is an open one with status ``parked``: the worker that got its message has written down what it waits for,
and has thrown the message away. The reconciler publishes it again when it is due; a person's approval does so at once.
Each script is atomic, and the first decision counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import redis

from tta_tasks.connection import translated
from tta_tasks.ledger.base import LedgerBase
from tta_tasks.models import Decision, DeploymentRequest, Promotion, TaskRecord
from tta_tasks.settings import Settings

#: A parked task is looked at this often within the retention at least, so that its run does not expire.
LOOKS = 4


class DecisionResult(StrEnum):
    """What became of a decision."""

    #: It is written down.
    RECORDED = "recorded"
    #: It is, and the task waits for a worker now: publish it.
    RELEASED = "released"
    #: Somebody had decided before.
    DECIDED = "decided"
    #: The task was never parked.
    EARLY = "early"
    #: It needs no approval.
    UNNEEDED = "unneeded"
    #: The target lists who may approve, and the caller's Redis user is not among them.
    STRANGER = "stranger"
    #: Its time was over.
    EXPIRED = "expired"
    #: A worker is doing it.
    BEGUN = "begun"
    ENDED = "ended"
    UNKNOWN = "unknown"


def approves(request: DeploymentRequest, release: str) -> str:
    """What a person approves: this very release, of this component, there."""
    return f"{request.environment}/{request.component.name}/{release}"


class Parking(LedgerBase):
    """Parks tasks, and takes down what people decide of them."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._park = self._script("park")
        self._decide = self._script("decide")
        self._defer = self._script("defer")

    @property
    def look_s(self) -> float:
        """How long a parked task may go without being looked at, in seconds."""
        return self._settings.retention_s / LOOKS

    def park(self, task: TaskRecord, promotion: Promotion) -> bool:
        """Record that ``task`` waits; ``False`` when it was begun, or has ended, meanwhile."""
        waits = f"{promotion.after} soaks" if promotion.waits_for == "soak" else "waits for approval"
        with translated(self._url):
            answer = self._park(
                task_id=task.id, promotion=promotion.model_dump_json(), waits_for=waits, look=self.look_s
            )
        return bool(answer)

    def decide(self, task: TaskRecord, decision: Decision, grace_s: float) -> tuple[DecisionResult, Decision | None]:
        """Write ``decision`` down, if it is the first and there is something to decide.

        Args:
            task: The task.
            decision: Who said what.
            grace_s: In how many seconds the reconciler looks after the task, should it be released.

        Returns:
            What became of it, and the decision that counts.
        """
        terms = task.promotion
        approval = (
            approves(task.request, terms.release) if terms and isinstance(task.request, DeploymentRequest) else ""
        )
        if terms and terms.approvers:
            decision = decision.model_copy(update={"user": self.user})
        message = f"by {decision.by}" + (f": {decision.reason}" if decision.reason else "")
        with translated(self._url):
            answer: list[bytes] = self._decide(
                task_id=task.id,
                decision=decision.model_dump_json(),
                outcome=str(decision.outcome),
                message=message,
                grace=grace_s,
                user=self.user,
                approval=approval,
            )
        counts = Decision.from_stored(answer[1]) if answer[1] else None
        return DecisionResult(answer[0].decode()), counts

    @property
    def user(self) -> str:
        """As whom Redis knows us."""
        return str(self._redis.get_connection_kwargs().get("username") or "default")

    def approvals(self, task: TaskRecord, users: Iterable[str]) -> Mapping[str, str]:
        """What each of ``users`` has approved by ``task``; Redis lets none of them write another's."""
        found = {}
        with translated(self._url):
            for user in users:
                said: Any = self._redis.get(f"approval:{self._prefix}{user}:{task.id}")
                if said is not None:
                    found[user] = said.decode(errors="replace")
        return found

    def defer(self, task: TaskRecord, look: float) -> None:
        """Look after ``task`` at ``look``, unless it changes, or has changed since it was read."""
        with translated(self._url):
            self._defer(task_id=task.id, due=look, decided=int(task.decision is not None))

    def publishing(self, task: TaskRecord, look: float) -> None:
        """Record that a parked task's message is published now, for a worker to look; look after it at ``look``."""
        now = self.clock.now()
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"{self._prefix}task:{task.id}", "published_at", repr(now))
            pipe.zadd(f"{self._prefix}open:{task.queue}", {task.id: look}, xx=True)
            pipe.execute()

    def keep(self, task: TaskRecord, others: Iterable[str]) -> None:
        """Do not let what belongs to a parked task expire: its run, and the tasks ``others``."""
        run = task.run_id or ""
        names = [f"run:{run}", f"events:{run or task.id}", *(f"task:{each}" for each in {task.id, *others})]
        with translated(self._url), self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.expire(f"{self._prefix}{name}", self._settings.retention_s)
            pipe.execute()
