"""A peer's own environment, made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
#: A block of script metadata, as the packaging specifications define it.
BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@dataclass(frozen=True)
class Candidate:
    """A system to compare, as its file describes it."""

    name: str
    title: str
    #: Requirements; none for the product itself.
    requires: tuple[str, ...]
    measures: frozenset[str]
    #: The largest number of tasks it is given at once.
    most: int
    #: Seconds that its first start may take.
    patience_s: float
    #: The numbers of slots that its makespan is measured on; empty for all.
    slots: tuple[int, ...]


def candidate(name: str) -> Candidate:
    """Read the peer's file.

    Raises:
        SystemExit: There is none of that name.
    """
    file = PEERS / f"{name}.py"
    found = BLOCK.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    if found is None:
        raise SystemExit(f"No peer {name!r}. Known: {', '.join(names())}.")
    lines = (line.removeprefix("#").removeprefix(" ") for line in found["content"].splitlines())
    metadata: dict[str, Any] = tomllib.loads("\n".join(lines))
    bench = metadata["tool"]["bench"]
    return Candidate(
        name=name,
        title=bench["title"],
        requires=tuple(metadata.get("dependencies", ())),
        measures=frozenset(bench["measures"]),
        most=bench["most"],
        patience_s=bench.get("patience_s", 60.0),
        slots=tuple(bench.get("slots", ())),
    )


def names() -> list[str]:
    """All peers there are."""
    return sorted(file.stem for file in PEERS.glob("*.py") if BLOCK.search(file.read_text(encoding="utf-8")))


def interpreter(peer: Candidate, cache: Path) -> str:
    """The Python that has what ``peer`` requires; its environment is made where there is none yet.

    Raises:
        SystemExit: It cannot be installed.
    """
    if not peer.requires:
        return sys.executable
    digest = hashlib.sha256("\n".join((sys.version, *peer.requires)).encode()).hexdigest()[:12]
    folder = cache / "peers" / f"{peer.name}-{digest}"
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), *peer.requires)
        ready.touch()
    return str(python)


def installed(python: str) -> str:
    """What is installed beside ``python``, a line a package."""
    return _uv("pip", "freeze", "--python", python)


def _uv(*arguments: str) -> str:
    argv = [sys.executable, "-m", "uv", "--quiet", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`uv {' '.join(arguments)}` failed: {done.stderr.strip()[-800:]}")
    return done.stdout
