"""Whether a person who may has approved a deployment, where its target lists who may.

What the ledger says of it, each producer could have written. An approval by a listed user is where Redis itself lets
that user alone write (``deploy/redis/users.acl``), and names what it is for.
"""

from __future__ import annotations

from tta_tasks.errors import DeploymentFailed
from tta_tasks.ledger.parking import approves
from tta_tasks.models import DeploymentRequest
from workers.deployers.targets import PromotionRule
from workers.stages.context import Context


def check(rule: PromotionRule | None, request: DeploymentRequest, release: str, context: Context) -> None:
    """See that a user whom ``rule`` lists has approved that this task deploys ``release`` as ``request`` says.

    Raises:
        DeploymentFailed: None of them has.
    """
    if rule is None or rule.approvers is None:
        return
    wanted = approves(request, release)
    if wanted in context.ledger.parking.approvals(context.task, rule.approvers).values():
        return
    said = context.task.decision
    may = ", ".join(rule.approvers)
    claimed = f" {said.by} is said to have." if said is not None and said.outcome == "approved" else ""
    raise DeploymentFailed(
        f"Release {release[:12]} of {request.component.name!r} was not approved by a Redis user who may approve for"
        f" {request.environment!r}: {may}.{claimed}",
        "`tta retry` does the run once more; one of them then says `tta approve`, with this version or a newer one.",
    )
