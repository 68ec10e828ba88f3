"""Puts the module's global variables back after each call, so that no call depends on those before it."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import collections
from collections.abc import Callable
from types import ModuleType
from typing import Any

_CONTAINERS = (list, dict, set, collections.OrderedDict, collections.defaultdict, collections.deque)


class ModuleState:
    """The bindings of a module and of its classes, and what its containers hold, as they are now."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        classes = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        self._bindings = {k: v for k, v in vars(module).items() if k != "__builtins__"}
        holders = [vars(module), *(vars(cls) for cls in classes)]
        containers = {
            id(value): value
            for holder in holders
            for name, value in list(holder.items())
            if type(value) in _CONTAINERS and not name.startswith("__")
        }
        self._contents = [(value, value.copy()) for value in containers.values()]
        self._attributes = [(cls, {k: v for k, v in vars(cls).items() if not k.startswith("__")}) for cls in classes]

    def restore(self) -> None:
        """Undo what a call changed."""
        current = vars(self._module)
        if any(current.get(name, self) is not value for name, value in self._bindings.items()):
            current.update(self._bindings)
        for container, saved in self._contents:
            if len(container) != len(saved) or not _same(container, saved):
                _refill(container, saved)
        for cls, attributes in self._attributes:
            for name, value in attributes.items():
                if cls.__dict__.get(name, self) is not value:
                    setattr(cls, name, value)


def _same(container: Any, saved: Any) -> bool:
    """Whether both hold the very same objects, in the same order."""
    if isinstance(container, dict):
        return all(a is b for a, b in zip(container.values(), saved.values(), strict=False))
    return isinstance(container, set) or all(a is b for a, b in zip(container, saved, strict=False))


def _refill(container: Any, saved: Any) -> None:
    fill: Callable[[Any], object] = container.update if isinstance(container, (dict, set)) else container.extend
    container.clear()
    fill(saved)
