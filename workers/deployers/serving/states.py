"""What an environment should serve, and what it does serve, as two small files beside its releases.

serving.json   written by deployments, read by the keeper
served.json    written by the keeper, read by deployments
keeper.lock    held by the keeper; the kernel frees it when it dies
data/          what services may write to, and keep
logs/          what services print, bounded
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from tta_tasks.models import Digest, Model
from workers.deployers.release_store import write

M = TypeVar("M", bound=Model)


class Backend(Model):
    """A release that connections can be handed to."""

    release: Digest
    #: Where it listens, as ``host:port``, if somebody else keeps it running.
    address: str = ""
    #: What starts it otherwise; ``{port}`` stands for the port it is to listen on.
    command: tuple[str, ...] = ()
    #: Where it starts.
    folder: Path = Path("/")
    env: Mapping[str, str] = Field(default_factory=dict)
    memory_bytes: int = 4 << 30
    processes: int = 512
    #: Seconds it may take to end when it is asked to.
    grace_s: float = 5.0


class Plan(Model):
    """What should be."""

    #: Goes up with each change.
    generation: int = 0
    #: Where clients connect, as ``host:port``.
    public: str
    backends: tuple[Backend, ...] = ()
    #: Who gets connections: the first that takes them. Empty: nobody, and nobody listens.
    order: tuple[Digest, ...] = ()


class Seen(Model):
    """A backend as the keeper sees it."""

    #: ``host:port``
    address: str = ""
    alive: bool = False
    #: How often it ended without being asked to.
    deaths: int = 0
    #: What came of the last one.
    said: str = ""
    #: Connections it has now.
    connections: int = 0


class Status(Model):
    """What is."""

    #: The plan that was acted upon.
    generation: int = -1
    pid: int = 0
    #: Why clients cannot connect, or an empty string.
    error: str = ""
    backends: Mapping[Digest, Seen] = Field(default_factory=dict)


class Files:
    """Both files of one environment.

    Args:
        base: The environment's folder.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data, self.logs = base / "data", base / "logs"
        self.wanted, self._served = base / "serving.json", base / "served.json"

    def plan(self) -> Plan | None:
        """What should be; ``None`` where nothing was ever served."""
        return _read(self.wanted, Plan)

    def status(self) -> Status:
        """What the keeper last told."""
        return _read(self._served, Status) or Status()

    def want(self, plan: Plan) -> None:
        """Write a plan down."""
        write(self.wanted, plan.model_dump_json(indent=2), mode=0o600)

    def tell(self, status: Status) -> None:
        """Write down how things are."""
        write(self._served, status.model_dump_json(indent=2))

    def keeping(self, timeout_s: float = 0.0) -> FileLock:
        """The lock of the keeper."""
        return FileLock(self.base / "keeper.lock", timeout=timeout_s)

    def forsaken(self) -> bool:
        """Whether there is no keeper; what a former one told is forgotten then."""
        with contextlib.suppress(Timeout), self.keeping():
            self._served.unlink(missing_ok=True)
            return True
        return False


def _read(path: Path, model: type[M]) -> M | None:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError):
        return None  # of another version; the next deployment writes it anew


def split(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
