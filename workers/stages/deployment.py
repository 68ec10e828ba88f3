"""Releases the collected tree to one environment."""

from __future__ import annotations

from pathlib import Path

from tta_tasks import plugins, tracing
from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import CollectionResult, DeploymentRequest, DeploymentResult, ErrorInfo, Status
from tta_tasks.protocols import Deployer, Release, ReleaseRequest
from workers.build import Wheels, release_digest
from workers.context import Context
from workers.deployers.targets import load_target


def run(request: DeploymentRequest, context: Context) -> DeploymentResult:
    """Build the release, or take the one built for another environment, and deploy it.

    Raises:
        DeploymentFailed: There is nothing to deploy, no such environment, or it cannot be done.
        UnknownEngine: The deployer is not installed here.
    """
    tree = collected_tree(request, context)
    target = load_target(context.settings.targets_file, request.environment)
    deployer: Deployer = plugins.load(plugins.DEPLOYERS, target.deployer)()
    digest = release_digest(tree, request.component)
    wanted = ReleaseRequest(
        component=request.component,
        environment=request.environment,
        digest=digest,
        artifact=_wheel(digest, tree, request, context),
        sandbox=context.sandbox,
        target=target.own,
        token=context.ledger.task(context.task.id).started_at or 0.0,
        progress=context.progress,
    )
    with tracing.span("deployment", deployer=target.deployer):
        release = deployer.release(wanted)
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


def _wheel(digest: str, tree: str, request: DeploymentRequest, context: Context) -> Path:
    wheels = Wheels(context.settings.cache, context.sandbox)
    if known := wheels.find(digest):
        return known
    with context.tree(tree) as checkout:
        return wheels.build(digest, checkout, request.component, context.progress)


def _rolled_back(request: DeploymentRequest, digest: str, release: Release) -> ErrorInfo:
    failed = "; ".join(f"{check.name}: {check.detail}" for check in release.checks if not check.ok)
    now = f"release {release.previous[:12]} is in use as before" if release.previous else "no release is in use"
    return ErrorInfo(
        type=DeploymentFailed.__name__,
        message=f"Release {digest[:12]} of {request.component.name!r} failed its checks in {request.environment},"
        f" and {now}. {failed}.",
        hint="Mend what the check says, or the check itself, in the component or in the worker's targets file.",
    )
