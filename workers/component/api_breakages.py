"""Names what a user of some packages would notice of a change; a program of its own, for the sandbox.

It is given the ``sys.path`` entry of both trees and the packages, and writes a JSON array of sentences. Sources may be
anything: it may run out of time or memory, or crash.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe


def breakages(before: Path, after: Path, packages: Iterable[str]) -> Iterator[str]:
    """One sentence for each."""
    for package in packages:
        was = _load(package, before)
        if was is None:
            continue  # it could not be read before either
        now = _load(package, after)
        if now is None:
            yield f"{package}: can no longer be read"
            continue
        yield from map(_sentence, griffe.find_breaking_changes(was, now))
        exported = set(_exports(now))
        yield from (f"{name}: is no longer exported" for name in _exports(was) if name not in exported)


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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(breakages(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))))
