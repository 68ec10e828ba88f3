"""What the probe is asked for; travels as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Mutation:
    """How to look for mutants that tests kill."""

    #: Absolute path of the module.
    path: str
    #: Node ids of tests that are kept in any case, and of those that must earn their place.
    kept: list[str]
    spare: list[str]
    #: Node id -> lines of the module that it executes.
    lines: dict[str, list[int]]
    #: Node id -> seconds it takes.
    durations: dict[str, float]
    #: Wall time for all mutants, in seconds, and most of them.
    budget_s: float
    most: int
    #: Which of them, where there are more.
    seed: int


@dataclass
class ProbeConfig:
    """One run of pytest."""

    #: ``suite``: all tests in one process. ``isolate``: each in a fork of its own. ``mutate``: a fork for each mutant.
    mode: str
    #: Arguments of pytest.
    args: list[str]
    #: Folder for whatever must not be in the tree.
    scratch: str = ""
    #: The component's modules, relative path -> absolute; empty: measure nothing.
    measure: dict[str, str] = field(default_factory=dict)
    #: Whether statements are counted in a second way, too (:mod:`workers.probe.counting`).
    counted: bool = False
    #: Whether to tell which test executed what.
    contexts: bool = False
    #: The one module whose executed lines and branches are told test by test (``isolate``).
    focus: str = ""
    #: Dotted names of the component's modules, whose globals are watched (``isolate``).
    modules: list[str] = field(default_factory=list)
    #: Folders in which a test must leave nothing (``isolate``).
    watch: list[str] = field(default_factory=list)
    #: Shuffles the tests; ``None`` keeps their order.
    seed: int | None = None
    #: Node ids that are not run.
    deselect: list[str] = field(default_factory=list)
    #: Seconds one test may take (``isolate``).
    case_timeout_s: float = 10.0
    mutation: Mutation | None = None

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, path: str) -> ProbeConfig:
        """Read what :meth:`dump` wrote."""
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        mutation = fields.pop("mutation")
        return cls(**fields, mutation=Mutation(**mutation) if mutation else None)
