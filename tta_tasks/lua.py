"""Lua scripts in ``.lua`` files, called by the names of their arguments.

A script makes its keys from its arguments, and has two declarations that Lua itself does not know:

``-- args: prefix, now, task_id, counters...``
    What is in ``ARGV``. Each name becomes a local; a last one with ``...`` takes a list, and its local is the index in
    ``ARGV`` of the list's first item. After a comma the declaration goes on in the next line.
``--#include _NAME``
    The text of ``_NAME.lua`` in the same folder, once a script.

``python -m tta_tasks.lua DIRECTORY ROOT...`` writes all scripts below the roots into a directory, as Redis gets them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import redis

ARGS: Final = re.compile(r"^-- args: (\w+(?:,(?: |\n-- +)\w+\b(?!\.))*)(?:,(?: |\n-- +)(\w+)\.{3})?$", re.MULTILINE)
INCLUDE: Final = re.compile(r"^--#include (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A script as Redis gets it.

    Args:
        text: Lua.
        names: Its arguments, in the order of ``ARGV``.
        tail: The last one, which takes a list; not among ``names``. Empty where there is none.
    """

    text: str
    names: tuple[str, ...]
    tail: str


class Script:
    """A script of a server.

    Args:
        client: The server.
        path: The script's file.
        **constants: Arguments that are the same in each call.

    Raises:
        TypeError: A constant is not an argument of the script.
    """

    def __init__(self, client: redis.Redis, path: Path, **constants: Any) -> None:  # noqa: ANN401 - what redis-py takes
        source = load(path)
        if unknown := constants.keys() - source.names:
            raise TypeError(f"{path.name} takes no {', '.join(sorted(unknown))}.")
        self._script = client.register_script(source.text)
        self._name = path.name
        self._source = source
        self._constants = constants
        self._wanted = frozenset((*source.names, *filter(None, [source.tail]))) - constants.keys()
        #: What ``EVALSHA`` calls it.
        self.sha: str = self._script.sha

    def __call__(self, client: redis.Redis | None = None, **arguments: Any) -> Any:  # noqa: ANN401 - likewise
        """Run it.

        Args:
            client: Another connection to the server, or a pipeline.
            **arguments: All of its arguments that are no constants.

        Raises:
            TypeError: One of them is missing, or the script has no such argument.
        """
        return self._script(args=self.argv(arguments), client=client)

    def argv(self, arguments: Mapping[str, Any]) -> list[Any]:
        """The arguments of a call in the order of ``ARGV``.

        Raises:
            TypeError: One of them is missing, or the script has no such argument.
        """
        if arguments.keys() != self._wanted:
            raise TypeError(f"{self._name} takes {sorted(self._wanted)}, not {sorted(arguments)}.")
        values = {**self._constants, **arguments}
        found = [values[name] for name in self._source.names]
        return [*found, *values[self._source.tail]] if self._source.tail else found


@cache
def load(path: Path) -> Source:
    """The script in ``path``, with what it includes.

    Raises:
        ValueError: It does not declare its arguments.
    """
    text = _expanded(path, set())
    declared = ARGS.search(text)
    if declared is None:
        raise ValueError(f"{path} has no line `-- args: ...`.")
    listed, tail = declared[1].replace("\n--", "\n"), declared[2] or ""
    names = tuple(re.findall(r"\w+", listed))
    unpacked = f"local {listed} = unpack(ARGV, 1, {len(names)})"
    if tail:
        unpacked += f"; local {tail} = {len(names) + 1}"
    return Source(text[: declared.start()] + unpacked + text[declared.end() :], names, tail)


def _expanded(path: Path, included: set[str]) -> str:
    def include(found: re.Match[str]) -> str:
        name = found[1]
        if name in included:
            return ""
        included.add(name)
        return _expanded(path.with_name(f"{name}.lua"), included)

    return INCLUDE.sub(include, path.read_text(encoding="utf-8"))


def write(directory: Path, *roots: Path) -> None:
    """Write the scripts below ``roots`` into ``directory``, as Redis gets them."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in scripts(*roots):
        (directory / str(path).strip("/").replace("/", "-")).write_text(load(path).text, encoding="utf-8")


def scripts(*roots: Path) -> list[Path]:
    """The files of all scripts below ``roots``, without those that are only included."""
    return sorted(path for root in roots for path in root.rglob("*.lua") if not path.name.startswith("_"))


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
