"""Whether a deployment may be begun: the worker looks here at what its target's promotion rule, or a gate, asks for.

It holds no slot meanwhile: what is missing is answered, and the task is parked with it
(``tta_tasks/ledger/parking.py``). The rule is read anew each time somebody looks.
"""

from __future__ import annotations

from dataclasses import replace

from tta_tasks import plugins
from tta_tasks.errors import DeploymentFailed
from tta_tasks.ledger import Ledger
from tta_tasks.models import CollectionResult, DeploymentRequest, DeploymentResult, Promotion, TaskRecord
from tta_tasks.promotion import expiry, rejection
from tta_tasks.protocols import Deployer, ReleaseRequest
from workers.component.wheels import Wheels, release_digest
from workers.deployers.targets import EnvironmentConfig, PromotionRule, load_target
from workers.stages import approval
from workers.stages.context import Context
from workers.stages.deployment import collected_tree, tell


def promote(task: TaskRecord, ledger: Ledger) -> Promotion | None:
    """See what ``task`` waits for; the entry point ``promote`` of ``tta_tasks.worker``.

    Returns:
        What is missing, or ``None``: it may be begun.

    Raises:
        DeploymentFailed: It must not be begun: the environment before it does not hold the release, or is not well; it
            was rejected, or not approved in time; or the worker's targets do not hold.
    """
    context, request = Context(task, ledger), task.request
    # What is wrong without a targets file, the deployment itself says.
    if not isinstance(request, DeploymentRequest) or context.settings.targets_file is None:
        return None
    if request.back_to is not None:  # it was in use before
        return None
    rule = load_target(context.settings.targets_file, request.environment, request.component.name).promotion
    asked = _asked_by_gate(request, context)
    if rule is None and not asked:
        return None
    if task.decision is not None and task.decision.outcome == "rejected":
        raise rejection(task.decision)
    now = context.ledger.clock.now()
    if rule is None:
        return _missing(PromotionRule(approval=True), None, task, now, task.promotion.since if task.promotion else now)
    rule = rule.model_copy(update={"approval": rule.approval or rule.approvers is not None or asked})
    before = _before(rule, request, context)
    soaked_at = (before.finished_at or now) + rule.soak_s
    if task.promotion is not None or now >= soaked_at:  # else it was checked a moment ago
        _see_to_health(rule, before, request, context)
    missing = _missing(rule, rule.after, task, now, soaked_at)
    return _listed(rule, missing, request, context)


def _listed(
    rule: PromotionRule, missing: Promotion | None, request: DeploymentRequest, context: Context
) -> Promotion | None:
    """``missing``, with who may approve what where the rule lists them; if nothing is missing, see who has."""
    if rule.approvers is None:
        return missing
    release = release_digest(collected_tree(request, context), request.component)
    if missing is None:
        approval.check(rule, request, release, context)
        return None
    return missing.model_copy(update={"approvers": rule.approvers, "release": release})


def _asked_by_gate(request: DeploymentRequest, context: Context) -> bool:
    """Whether a gate parked what was collected, and no earlier deployment of it was approved."""
    needs = tuple(context.ledger.tasks(request.needs))
    gates = [gate for need in needs if isinstance(need.result, CollectionResult) for gate in need.result.gates]
    approved = any(need.decision is not None and need.decision.outcome == "approved" for need in needs)
    return not approved and any(gate.outcome == "parked" for gate in gates)


def _missing(
    rule: PromotionRule, after: str | None, task: TaskRecord, now: float, soaked_at: float
) -> Promotion | None:
    """What ``rule`` still asks for, where the environment before is well."""
    expires_at = soaked_at + rule.expires_s if rule.approval else None
    terms = Promotion(
        waits_for="soak",
        after=after,
        since=task.promotion.since if task.promotion else now,
        soaked_at=soaked_at,
        approval=rule.approval,
        expires_at=expires_at,
        due=min(now + rule.check_every_s, soaked_at),
    )
    if now < soaked_at:
        return terms
    if expires_at is None or task.decision is not None:
        return None
    if now > expires_at:
        raise expiry(terms)
    return terms.model_copy(update={"waits_for": "approval", "due": expires_at})


def _before(rule: PromotionRule, request: DeploymentRequest, context: Context) -> TaskRecord:
    """The deployment of the same release that has to come first."""
    digest = release_digest(collected_tree(request, context), request.component)
    for need in context.ledger.tasks(request.needs):
        result = need.result if isinstance(need.result, DeploymentResult) and need.result.ok else None
        if result is not None and (result.environment, result.release) == (rule.after, digest):
            return need
    raise DeploymentFailed(
        f"{request.environment!r} takes only what was released to {rule.after!r} before, and this was not.",
        f"Let the deployment need one of the same collection to {rule.after!r}; `tta run` does.",
    )


def _see_to_health(rule: PromotionRule, before: TaskRecord, request: DeploymentRequest, context: Context) -> None:
    """Ask the environment before whether it still holds the release, and is well; else roll it back, where asked for.

    Raises:
        DeploymentFailed: It does not, or is not.
    """
    target = load_target(context.settings.targets_file, rule.after, request.component.name)
    deployer: Deployer = plugins.load(plugins.DEPLOYERS, target.deployer)()
    digest = release_digest(collected_tree(request, context), request.component)
    wanted = ReleaseRequest(
        component=request.component,
        environment=rule.after,
        digest=digest,
        artifact=None,
        sandbox=context.sandbox,
        target=target.own,
        # Of the deployment that it is about: what has come later is not undone.
        token=before.started_at or 0.0,
        run_id=request.run_id or "",
        task_id=context.task.id,
    )
    if bad := [check for check in deployer.check(wanted) if not check.ok]:
        said = "; ".join(f"{check.name}: {check.detail}".rstrip(": ") for check in bad)
        done = _rolled_back(deployer, target, wanted, before, context) if rule.roll_back else ""
        raise DeploymentFailed(
            f"Release {digest[:12]} did not hold in {rule.after!r} until {request.environment!r} was due ({said});"
            f" {request.environment!r} was not begun.{done}",
            f"See what is wrong in {rule.after!r}; `tta retry` does the run once more.",
        )


def _rolled_back(
    deployer: Deployer, target: EnvironmentConfig, bad: ReleaseRequest, before: TaskRecord, context: Context
) -> str:
    """Go back to what was there before, if the release is still the one in use; answer what came of it."""
    name, environment = bad.component.name, bad.environment
    if deployer.history(name, environment, target.own).current != bad.digest:
        return ""
    earlier = next(iter(deployer.releases(name, environment, target.own)), None)
    if earlier is None:
        return f" There is nothing to go back to in {environment!r}."
    wheel = Wheels(context.settings.cache, context.sandbox).find(earlier)
    try:
        release = deployer.release(replace(bad, digest=earlier, artifact=wheel, back=True))
    except DeploymentFailed as error:
        return f" {environment!r} could not be rolled back: {error.message}"
    finally:
        if isinstance(before.request, DeploymentRequest):
            tell(before.request, deployer, target, context)
    held = "is in use there again" if release.action != "rolled_back" else "failed its checks there, too"
    return f" Release {earlier[:12]} {held}."
