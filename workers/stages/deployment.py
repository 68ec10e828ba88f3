"""Releases the collected tree to one environment, or goes back to what was there before."""

from __future__ import annotations

from pathlib import Path

from tta_tasks import plugins, tracing
from tta_tasks.environments import Environments
from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import (
    CollectionResult,
    DeploymentRequest,
    DeploymentResult,
    EnvironmentRecord,
    ErrorInfo,
    Status,
)
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.component.wheels import Wheels, release_digest
from workers.deployers.targets import EnvironmentConfig, load_target
from workers.stages import approval
from workers.stages.context import Context


def run(request: DeploymentRequest, context: Context) -> DeploymentResult:
    """Build the release, or take the one built for another environment, and deploy it; or go back to an earlier one.

    What the environment has seen is told to everybody in any case.

    Raises:
        DeploymentFailed: There is nothing to deploy, no such environment, or it cannot be done.
        UnknownEngine: The deployer is not installed here.
    """
    tree = None if request.back_to else collected_tree(request, context)
    target = load_target(context.settings.targets_file, request.environment, request.component.name)
    deployer: Deployer = plugins.load(plugins.DEPLOYERS, target.deployer)()
    if tree:  # whoever published the task could have left out its preconditions
        approval.check(target.promotion, request, release_digest(tree, request.component), context)
    digest, artifact = _collected(tree, request, context) if tree else _earlier(request, deployer, target, context)
    wanted = ReleaseRequest(
        component=request.component,
        environment=request.environment,
        digest=digest,
        artifact=artifact,
        sandbox=context.sandbox,
        target=target.own,
        token=context.ledger.task(context.task.id).started_at or 0.0,
        back=request.back_to is not None,
        run_id=request.run_id or "",
        task_id=context.task.id,
        progress=context.progress,
    )
    try:
        with tracing.span("deployment", deployer=target.deployer):
            release = deployer.release(wanted)
    finally:
        tell(request, deployer, target, context)
    error = _rolled_back(request, digest, release) if release.action == "rolled_back" else None
    return DeploymentResult(
        status=Status.FAILED if error else Status.COMPLETED,
        error=error,
        environment=request.environment,
        release=digest,
        action=release.action,
        location=release.location,
        previous=release.previous,
        checks=release.checks,
    )


def collected_tree(request: DeploymentRequest, context: Context) -> str:
    """The tree that the collection of ``request`` has put together.

    Raises:
        DeploymentFailed: There is none.
    """
    for result in context.results(request.needs):
        if isinstance(result, CollectionResult) and result.ok and result.tree:
            return result.tree
    raise DeploymentFailed(
        "There is no collected tree to deploy.", "Let the deployment need a collection that was completed."
    )


def _collected(tree: str, request: DeploymentRequest, context: Context) -> tuple[str, Path]:
    """The release of the collected tree: its digest, and its wheel."""
    digest = release_digest(tree, request.component)
    wheels = Wheels(context.settings.cache, context.sandbox)
    if known := wheels.find(digest):
        return digest, known
    with context.tree(tree) as checkout:
        return digest, wheels.build(digest, checkout, request.component, context.progress)


def _earlier(
    request: DeploymentRequest, deployer: Deployer, target: EnvironmentConfig, context: Context
) -> tuple[str, Path | None]:
    """The release to go back to, and its wheel where this host still has it."""
    name, environment, wanted = request.component.name, request.environment, request.back_to or ""
    known = list(deployer.releases(name, environment, target.own))
    if wanted not in known and wanted != deployer.history(name, environment, target.own).current:
        raise DeploymentFailed(
            f"Release {wanted[:12]} of {name!r} cannot be gone back to in {environment}; what can:"
            f" {', '.join(digest[:12] for digest in known) or 'none'}.",
            "Deploy the run that made it again.",
        )
    return wanted, Wheels(context.settings.cache, context.sandbox).find(wanted)


def tell(request: DeploymentRequest, deployer: Deployer, target: EnvironmentConfig, context: Context) -> None:
    """Let everybody know what the environment has seen."""
    history = deployer.history(request.component.name, request.environment, target.own)
    Environments(context.settings).tell(
        EnvironmentRecord(
            environment=request.environment,
            component=request.component,
            snapshot=request.snapshot,
            current=history.current,
            entries=history.entries,
        )
    )


def _rolled_back(request: DeploymentRequest, digest: str, release: Release) -> ErrorInfo:
    failed = "; ".join(f"{check.name}: {check.detail}" for check in release.checks if not check.ok)
    now = f"release {release.previous[:12]} is in use as before" if release.previous else "no release is in use"
    return ErrorInfo(
        type=DeploymentFailed.__name__,
        message=f"Release {digest[:12]} of {request.component.name!r} failed its checks in {request.environment},"
        f" and {now}. {failed}.",
        hint="Mend what the check says, or the check itself, in the component or in the worker's targets file.",
    )
