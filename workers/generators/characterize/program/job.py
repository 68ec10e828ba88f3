"""One job of the program, as the worker describes it in a JSON file."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import faulthandler
import importlib
import io
import json
import mmap
import os
import random
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from . import clock_shift
from .assertions import AssertionBuilder
from .call_graph import private_lines
from .case import Case
from .explore import Budget, Explorer
from .guard import Guard
from .mutate import Mutator
from .names import Names
from .runner import Runner
from .seed_inputs import SeedInputs
from .sequences import search_sequences
from .targets import CallableTarget, discover
from .tracer import all_codes, tracer_for
from .verify import verify

#: Seconds one call may take, and after which the process ends itself when even a signal does not stop a call.
_CALL_S = 0.3
_HANG_S = 2.0
_SEED_INPUTS_S = 20.0
_JOURNAL_BYTES = 4096
#: A host's name of up to so many letters may be in any text by chance.
_SHORT_NAME = 5


@dataclass(frozen=True)
class Job:
    """What to do. Paths are absolute."""

    mode: str
    module: str
    project: str
    tests: str
    #: Where results go, and the only folder that may be written to.
    folder: str
    seed: int
    budget_s: float
    executions: int
    #: Lines to aim at; empty for all.
    lines: list[int]
    #: Inputs that ended the process before.
    skip: list[str]
    #: Targets that did so more than once.
    skip_targets: list[str]
    #: Whether the clock is shifted.
    shifted: bool = False


class Journal:
    """The input that is being run, in memory that outlives the process."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b" " * _JOURNAL_BYTES)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _JOURNAL_BYTES)
        self._renewed = 0.0

    def note(self, source: str, seconds: float = _HANG_S) -> None:
        """Note what is about to be run, and put off the end of this process by ``seconds``."""
        self._memory[:] = source.encode(errors="replace")[:_JOURNAL_BYTES].ljust(_JOURNAL_BYTES)
        now = time.monotonic()
        if now - self._renewed > _HANG_S / 4 or seconds != _HANG_S:
            # Ends the process from a thread of its own: even a regular expression that runs for ever is ended.
            faulthandler.dump_traceback_later(seconds, exit=True)
            self._renewed = now if seconds == _HANG_S else 0.0


def run(path: Path) -> None:
    """Do the job in ``path``; what came of it is in the job's folder. Ends the process."""
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    folder = Path(job.folder).resolve()
    home, work = folder / "home", folder / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    os.environ.update(HOME=str(home), TMPDIR=str(home), HYPOTHESIS_STORAGE_DIRECTORY=str(home))
    # Code that reads the command line must not hold in both modes, as a test has no command line of its own.
    sys.argv[:] = ["program"] if job.mode == "explore" else ["program", f"file{job.seed}"]
    os.chdir(work)  # not to be written to: a test must not leave files where it runs
    faulthandler.enable()
    journal = Journal(folder / "journal")
    if job.shifted:
        clock_shift.shift()
    guard = Guard(home)
    guard.install()
    leave = guard.leave
    module, codes = _import(job, folder, leave)
    if job.mode == "verify":
        _verify(job, folder, guard, journal)
    else:
        _explore(job, folder, Names(module), guard, journal, codes=codes)
    sys.stdout.flush()
    # Threads and exit handlers of foreign code do not get a say.
    leave(0)


def _import(job: Job, folder: Path, leave: Any) -> tuple[ModuleType, list[CodeType]]:
    seen: list[CodeType] = []
    watching = True

    def collect(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "exec" and isinstance(args[0], CodeType):
            seen.append(args[0])

    sys.addaudithook(collect)
    try:
        # The guard is for calls: what an import does is between the module and the sandbox.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(job.module)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        (folder / "failed.json").write_text(json.dumps({"reason": reason.splitlines()[0][:300]}), encoding="utf-8")
        leave(3)
        raise
    watching = False
    file = module.__file__ or ""
    return module, [inner for code in seen if code.co_filename == file for inner in all_codes(code)]


def _verify(job: Job, folder: Path, guard: Guard, journal: Journal) -> None:
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [Case.from_json(json.loads(line)) for line in lines]
    held = verify(cases, guard, seconds=_CALL_S * 4, seed=job.seed, about_to=lambda index: journal.note(str(index)))
    (folder / "held.json").write_text(json.dumps(held), encoding="utf-8")


def _explore(job: Job, folder: Path, names: Names, guard: Guard, journal: Journal, *, codes: list[CodeType]) -> None:
    started = time.monotonic()
    file = Path(names.module.__file__ or "")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    rng = random.Random(job.seed)  # noqa: S311 - a search, not a secret
    seed_inputs = SeedInputs(names, tree, Path(job.project), Path(job.tests), job.seed)
    targets = [target for target in discover(names) if target.label not in job.skip_targets]
    private = private_lines(tree)
    for target in targets:
        journal.note(f"seed inputs of {target.label}", _SEED_INPUTS_S)
        target.lines |= private.get(
            f"{target.label}.__init__" if target.role == "constructor" else target.label, frozenset()
        )
        seed_inputs.fill(target)
    builder = AssertionBuilder(names, _environment(job, folder))
    runner = Runner(
        names,
        guard,
        tracer_for(str(file), codes),
        builder,
        folder=_package_folder(names.module, file),
        seconds=_CALL_S,
    )
    before = _kept(folder / "kept.jsonl")
    kept = dict.fromkeys(case.key for case in before)
    with (folder / "kept.jsonl").open("a", encoding="utf-8") as out:

        def keep(case: Case) -> None:
            if case.key not in kept:
                kept[case.key] = None
                out.write(json.dumps(case.to_json()) + "\n")
                out.flush()

        mutator = Mutator(rng, seed_inputs.texts, seed_inputs.numbers)
        explorer = Explorer(runner, mutator, rng, keep=keep, skip=frozenset(job.skip), about_to=journal.note)
        budget = Budget(job.executions, started + job.budget_s)
        explorer.resume(before, targets)
        _search(explorer, _aimed(targets, job.lines), rng, budget)
    summary = {"executions": budget.spent, "seconds": time.monotonic() - started, "targets": len(targets)}
    (folder / "done.json").write_text(json.dumps(summary), encoding="utf-8")


def _kept(file: Path) -> list[Case]:
    """What an earlier process of the same job kept before an input ended it."""
    if not file.exists():
        return []
    whole, newline, _cut = file.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    file.write_text(whole + newline, encoding="utf-8")
    return [Case.from_json(json.loads(line)) for line in whole.splitlines()]


def _search(explorer: Explorer, targets: list[CallableTarget], rng: random.Random, budget: Budget) -> None:
    """Constructors first, as methods need instances; then the rest; then sequences with what is left."""
    makers = [target for target in targets if target.role in {"constructor", "factory"}]
    others = [target for target in targets if target not in makers]
    shares = (0.25 if makers else 0.0, 0.75 if makers else 1.0)
    for group, share in ((makers, shares[0]), (others, shares[1])):
        for target in group:
            explorer.lend(target)
        part = budget.part(share)
        explorer.search(group, part)
        budget.spent += part.spent
    search_sequences(explorer, targets, rng, budget)


def _aimed(targets: list[CallableTarget], lines: list[int]) -> list[CallableTarget]:
    """Targets whose own lines are wanted, and those that make what these are called on; all where that is none."""
    wanted = set(lines)
    aimed = [target for target in targets if target.lines & wanted]
    owners = {target.owner for target in aimed}
    makers = [t for t in targets if t not in aimed and t.owner in owners and t.role in {"constructor", "factory"}]
    reached = set().union(*(target.lines for target in targets)) if targets else set()
    if not aimed or wanted - reached:
        # Lines outside every target belong to private functions: anything may lead there.
        return targets
    return [target for target in targets if target in aimed or target in makers]


def _package_folder(module: ModuleType, file: Path) -> Path:
    """The folder of the top-level package, or the file of a single module."""
    depth = module.__name__.count(".") + (file.name == "__init__.py")
    return file.parents[depth - 1] if depth else file


def _environment(job: Job, folder: Path) -> tuple[str, ...]:
    host = os.uname().nodename
    texts = [
        str(folder),
        job.folder,
        job.project,
        str(Path(job.project).resolve()),
        host if len(host) > _SHORT_NAME else "",
    ]
    return tuple(dict.fromkeys(text for text in texts if len(text) > 1))
