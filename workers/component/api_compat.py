"""Whether a component's public API is what it was, told from its source alone; nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import griffe

from tta_tasks.models import Component


def api_breakages(before: Path, after: Path, component: Component) -> tuple[str, ...]:
    """What a user of ``component`` would notice of the change from one tree to another.

    Args:
        before: Root of the tree as it was.
        after: Root of the tree as it is.
        component: The component in both.

    Returns:
        One sentence for each breakage (``calculator.add(b): parameter default was changed``); empty when there is none.
    """
    found: list[str] = []
    for package in sorted({module.name.partition(".")[0] for module in component.modules}):
        was = _load(package, before / component.root / component.import_root)
        if was is None:
            continue  # it could not be read before either
        now = _load(package, after / component.root / component.import_root)
        if now is None:
            found.append(f"{package}: can no longer be read")
            continue
        found += map(_sentence, griffe.find_breaking_changes(was, now))
        found += (f"{name}: is no longer exported" for name in _exports(was) if name not in set(_exports(now)))
    return tuple(found)


def _load(package: str, import_root: Path) -> griffe.Module | None:
    loader = griffe.GriffeLoader(search_paths=[import_root], allow_inspection=False)
    try:
        loaded = loader.load(package, try_relative_path=False)
    except (ImportError, griffe.GriffeError, SyntaxError, ValueError):
        return None
    loader.resolve_aliases(implicit=False, external=False)
    return loaded if isinstance(loaded, griffe.Module) else None


def _exports(module: griffe.Module) -> Iterator[str]:
    """What packages offer under a name of their own by importing it from their inside.

    Griffe takes such a name as public only where ``__all__`` says so; users do not wait for that.
    """
    for name, member in module.members.items():
        if isinstance(member, griffe.Module):
            yield from _exports(member)
        elif isinstance(member, griffe.Alias) and module.is_init_module:
            inner = member.target_path.partition(".")[0] == module.package.name
            if inner and not name.startswith("_"):
                yield f"{module.path}.{name}"


def _sentence(breakage: griffe.Breakage) -> str:
    parameters = [v for v in (breakage.old_value, breakage.new_value) if isinstance(v, griffe.Parameter)]
    subject = f"({parameters[0].name})" if parameters else ""
    return f"{breakage.obj.path}{subject}: {breakage.kind.value.lower()}"
