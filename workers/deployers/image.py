"""The container image of a release: built from its wheel, or pulled."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from tta_tasks.models import Model
from workers.deployers.commands import BUILD_S, Tool

#: The user that a built image runs as: an id without an account.
USER = "65532:65532"
_DOCKERFILE = """\
FROM {base}
COPY {wheel} /tmp/wheel/
RUN python3 -m venv /release && /release/bin/python -m pip install --no-cache-dir --disable-pip-version-check \\
    {packages}/tmp/wheel/{wheel} && rm -r /tmp/wheel
ENV PATH=/release/bin:$PATH PYTHONUNBUFFERED=1
LABEL tta.release={digest}
USER {user}
{command}
"""


class Image(Model):
    """How a target gets its images. The tag is always the release's digest."""

    #: Its repository: ``shop``, ``registry.example/shop``.
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:/-]{0,200}$")]
    #: Whether it is built here; else it must be there, or to be pulled.
    build: bool = True
    #: What it is built from: has Python with venv and pip.
    base: str = "python:3.12-slim"
    #: What it runs, unless the target's own file says.
    command: tuple[str, ...] = ()
    #: The network of the build, which installs the release's dependencies.
    network: str = "default"
    #: Whether dependencies that have no wheel are built there, by their own code and with that network.
    build_dependencies: bool = False
    #: Whether it is pushed to its registry.
    push: bool = False

    def reference(self, digest: str) -> str:
        """Its name and tag."""
        return f"{self.name}:{digest}"


def provide(image: Image, digest: str, wheel: Path | None, docker: Tool) -> None:
    """Have the image of a release in the engine, and in its registry where it is pushed.

    The wheel and what it needs are installed in a container of the engine, as the build's steps are.

    Args:
        image: How.
        digest: The release.
        wheel: What it is built of; ``None`` where only what is there can be taken.
        docker: The engine's command line.

    Raises:
        DeploymentFailed: It does not build, is not there, or cannot be pushed.
    """
    reference = image.reference(digest)
    if not docker.run("image", "inspect", reference).ok:
        if not image.build or wheel is None:
            why = "and nothing is left to build it of" if image.build else "and the target says not to build it"
            docker.require(
                "pull",
                reference,
                timeout_s=BUILD_S,
                hint=f"{reference} is not here, {why}.",
            )
        else:
            _build(image, digest, wheel, docker)
    if image.push:
        docker.require("push", reference, timeout_s=BUILD_S, hint="See that the worker is logged in to the registry.")


def prune(image: Image, needed: Collection[str], docker: Tool) -> None:
    """Remove the built images of releases that are not needed any more; one that a container uses stays."""
    if image.build:
        tags = docker.run("image", "ls", image.name, "--filter", "label=tta.release", "--format", "{{.Tag}}").stdout
        for tag in sorted({*tags.split()} - {*needed}):
            docker.run("image", "rm", image.reference(tag))


def _build(image: Image, digest: str, wheel: Path, docker: Tool) -> None:
    packages = "" if image.build_dependencies else "--only-binary :all: "
    command = f"CMD {json.dumps(image.command)}" if image.command else ""
    with tempfile.TemporaryDirectory(prefix="tta-image-") as name:
        folder = Path(name)
        shutil.copy(wheel, folder)
        (folder / "Dockerfile").write_text(
            _DOCKERFILE.format(
                base=image.base, wheel=wheel.name, packages=packages, digest=digest, user=USER, command=command
            )
        )
        docker.require(
            *("build", "--tag", image.reference(digest), "--network", image.network, name),
            timeout_s=BUILD_S,
            hint="Mend the component's dependencies, or `image` in the target. A dependency without a wheel needs"
            " `image.build_dependencies`, which lets its code run where the image is built.",
        )
