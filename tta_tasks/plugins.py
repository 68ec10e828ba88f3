"""Finds engines, and what a worker does, by entry point, on the host that runs them."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from tta_tasks import extras
from tta_tasks.errors import UnknownEngine

WORKER = "tta_tasks.worker"
GENERATORS = "tta_tasks.generators"
REFACTORERS = "tta_tasks.refactorers"
DEPLOYERS = "tta_tasks.deployers"
OBSERVERS = "tta_tasks.observers"
GATES = "tta_tasks.gates"

P = TypeVar("P")


@lru_cache
def _found(group: str) -> dict[str, EntryPoint]:
    # Of two with one name, the first on sys.path wins, as for modules.
    return {entry.name: entry for entry in reversed(tuple(entry_points(group=group)))}


def names(group: str) -> tuple[str, ...]:
    """Names of all plugins of ``group`` installed here, sorted."""
    return tuple(sorted(_found(group)))


def release(group: str, name: str) -> str:
    """Version of the distribution that brings ``name`` of ``group``; empty where it has none."""
    entry = _found(group).get(name)
    return entry.dist.version if entry is not None and entry.dist is not None else ""


def load(group: str, name: str) -> Any:  # noqa: ANN401 - each group has its own protocol
    """Import and return the object behind ``name`` in ``group``.

    Raises:
        UnknownEngine: Nothing of that name is installed here, or it cannot be imported.
        SettingsError: It is one of this package's own, and the extra ``worker`` is not installed.
    """
    try:
        entry = _found(group)[name]
    except KeyError:
        kind = group.rpartition(".")[2].removesuffix("s")
        raise UnknownEngine(
            f"No {kind} named {name!r} is installed here.", f"Installed: {', '.join(names(group)) or 'none'}."
        ) from None
    try:
        return entry.load()
    except ImportError as error:
        if entry.value.startswith("workers."):
            extras.require("worker", f"The {group} plugin {name!r}")
        raise UnknownEngine(f"The {group} plugin {name!r} ({entry.value}) cannot be imported: {error}.") from error


def create(group: str, name: str, protocol: type[P]) -> P:
    """An instance of the plugin ``name`` of ``group``, held to ``protocol``.

    Raises:
        UnknownEngine: It is not installed here, cannot be imported, or lacks something of the protocol or the name.
        SettingsError: As of :func:`load`.
    """
    made = load(group, name)()
    if isinstance(made, protocol) and getattr(made, "name", name) == name:
        return made
    kind = group.rpartition(".")[2].removesuffix("s")
    raise UnknownEngine(
        f"The {kind} {name!r} ({type(made).__module__}.{type(made).__qualname__}) is none.",
        f"It must have all of {protocol.__module__}.{protocol.__qualname__}, and name = {name!r}.",
    )
