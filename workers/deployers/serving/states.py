"""The desired and the observed state of what an environment serves: two files in the environment's folder.

desired-state.json   written by deployments, read by the service supervisor
observed-state.json  written by the service supervisor, read by deployments
supervisor.lock      held by the service supervisor; the kernel frees it when the process dies
data/                what services may write to; it outlives them
logs/                what services print, bounded
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from tta_tasks.errors import DeploymentFailed
from tta_tasks.models import Digest, Model
from workers.deployers.release_store import write

M = TypeVar("M", bound=Model)

#: Version of both files. A reader ignores fields that it does not know.
VERSION: Final = 1


class Backend(Model):
    """A release that connections can be forwarded to."""

    release: Digest
    #: Where it listens, as ``host:port``, if a platform (a container engine) runs it.
    address: str = ""
    #: The command that the supervisor runs otherwise; ``{port}`` stands for the port it must listen on.
    command: tuple[str, ...] = ()
    #: Its working directory.
    folder: Path = Path("/")
    #: What it needs to read beside that.
    readable: tuple[Path, ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    memory_bytes: int = 4 << 30
    processes: int = 512
    #: Seconds between SIGTERM and SIGKILL.
    grace_s: float = 5.0


class DesiredState(Model):
    """What an environment should serve."""

    version: int = VERSION
    #: Goes up with each change.
    generation: int = 0
    #: Where clients connect, as ``host:port``.
    public: str
    backends: tuple[Backend, ...] = ()
    #: Which backends get connections: the first that accepts. If it is empty, the public address is closed.
    order: tuple[Digest, ...] = ()


class BackendStatus(Model):
    """A backend as the supervisor sees it."""

    #: ``host:port``
    address: str = ""
    alive: bool = False
    #: How often it ended without being asked to.
    exits: int = 0
    #: How it ended the last time.
    last_exit: str = ""
    #: Connections it has now.
    connections: int = 0


class ObservedState(Model):
    """What an environment serves."""

    version: int = VERSION
    #: The generation of the desired state that it follows.
    generation: int = -1
    #: The supervisor's process.
    pid: int = 0
    #: Why clients cannot connect, or an empty string.
    error: str = ""
    backends: Mapping[Digest, BackendStatus] = Field(default_factory=dict)


class StateFiles:
    """Both files of one environment.

    Args:
        base: The environment's folder.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data, self.logs = base / "data", base / "logs"
        self.desired_path, self.observed_path = base / "desired-state.json", base / "observed-state.json"

    def desired(self) -> DesiredState | None:
        """Return what should be served; ``None`` if no deployment has written it yet.

        Raises:
            DeploymentFailed: The file cannot be read.
        """
        return _read(self.desired_path, DesiredState, "Remove it, and deploy again.")

    def observed(self) -> ObservedState:
        """Return what the supervisor last wrote.

        Raises:
            DeploymentFailed: The file cannot be read.
        """
        hint = "Remove it: the service supervisor writes it again."
        return _read(self.observed_path, ObservedState, hint) or ObservedState()

    def write_desired(self, state: DesiredState) -> None:
        """Write what should be served."""
        write(self.desired_path, state.model_dump_json(indent=2), mode=0o600)

    def write_observed(self, state: ObservedState) -> None:
        """Write what is served."""
        write(self.observed_path, state.model_dump_json(indent=2))

    def supervisor_lock(self, timeout_s: float = 0.0) -> FileLock:
        """Return the lock that the supervisor holds."""
        return FileLock(self.base / "supervisor.lock", timeout=timeout_s)

    def unsupervised(self) -> bool:
        """Whether no supervisor runs; deletes the observed state of one that has ended."""
        with contextlib.suppress(Timeout), self.supervisor_lock():
            self.observed_path.unlink(missing_ok=True)
            return True
        return False


def _read(path: Path, model: type[M], hint: str) -> M | None:
    try:
        return model.model_validate_json(path.read_bytes(), extra="ignore")
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DeploymentFailed(
            f"{path} cannot be read: {where + ': ' if where else ''}{first['msg']}.",
            hint,
        ) from error


def split(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
