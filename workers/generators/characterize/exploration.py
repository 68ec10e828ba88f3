"""Runs the program in the sandbox: a search that goes on after crashes, then checks in fresh processes."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from pydantic import Field, TypeAdapter, ValidationError

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Completed, GenerationJob, Limits
from workers.generators.characterize.checking import well_formed
from workers.generators.characterize.program.case import Case

PROGRAM = Path(__file__).with_name("program") / "__main__.py"
#: How often the search goes on after an input ended its process.
_RESTARTS = 10
#: Inputs run for each second of budget: about what a busy machine does, so that time is the upper bound.
_EXECUTIONS_PER_S = 1200
#: What a process needs beside its search: the start, the import, the seed inputs.
_OVERHEAD_S = 60.0
_MEMORY_BYTES = 2 << 30
#: Other conditions a recorded behaviour must hold under: hash seed, time zone, whether the clock is shifted. The time
#: zones are 26 hours apart, so the date always differs between them.
_CONDITIONS = (("1", "Pacific/Kiritimati", False), ("2", "Etc/GMT+12", True))
#: Cases read from one exploration, bytes of all of them and of one: a hostile module could write its own.
_MAX_CASES, _CASES_BYTES, _CASE_BYTES = 5000, 64 << 20, 256 << 10
#: Bytes of what else it writes.
_ANSWER_BYTES = 1 << 20

_CASE = TypeAdapter(Case)
_HELD = TypeAdapter(list[Annotated[int, Field(strict=True, ge=0)]])
_FAILED = TypeAdapter(dict[str, Annotated[str, Field(max_length=1000)]])


class Exchange:
    """The folder in which the program and the worker leave things for each other.

    Foreign code runs in the program's process, and may have left there whatever it likes.

    Args:
        scratch: The workspace's scratch folder.

    Raises:
        EngineFailed: The folder cannot be made.
    """

    def __init__(self, scratch: Path) -> None:
        self._tree = ForeignTree(scratch)
        self.folder = scratch / f"characterize-{uuid4().hex}"
        try:
            self._tree.make_folder(self.folder)
        except OSError as error:
            raise EngineFailed(f"There is no folder to explore in: {error.strerror}.") from error

    def write(self, name: str, content: str) -> Path:
        """Leave a file for the program; answer where.

        Raises:
            EngineFailed: It cannot be written.
        """
        try:
            self._tree.write_text(self.folder / name, content)
        except OSError as error:
            raise EngineFailed(f"{name} cannot be written for the search: {error.strerror}.") from error
        return self.folder / name

    def done(self) -> bool:
        """Whether the search came to its end."""
        return self._tree.is_file(self.folder / "done.json")

    def journal(self) -> str:
        """What was being run last; empty where that is not known."""
        try:
            said = self._tree.read_bytes(self.folder / "journal", max_bytes=_ANSWER_BYTES)
        except OSError:
            return ""
        return said.strip(b" \0").decode(errors="replace")

    def failed(self) -> str:
        """Why the module could not be imported; empty where the program does not say."""
        try:
            return self._tree.read_json(self.folder / "failed.json", _FAILED, max_bytes=_ANSWER_BYTES).get("reason", "")
        except OSError:
            return ""

    def held(self, among: Sequence[Case]) -> list[Case] | None:
        """The cases that held, of those the program was given; ``None`` where it does not say."""
        try:
            indices = self._tree.read_json(self.folder / "held.json", _HELD, max_bytes=_ANSWER_BYTES)
        except OSError:
            return None
        return [among[index] for index in dict.fromkeys(indices) if index < len(among)]

    def forget_held(self) -> None:
        """Remove what an earlier process said of the cases that held.

        Raises:
            EngineFailed: It cannot be removed.
        """
        try:
            self._tree.remove(self.folder / "held.json")
        except OSError as error:
            raise EngineFailed(f"held.json cannot be removed: {error.strerror}.") from error

    def kept(self) -> list[Case]:
        """The cases that were found; what is no case is left out.

        Raises:
            EngineFailed: There is more than a search can find.
        """
        if not self._tree.exists(self.folder / "kept.jsonl"):
            return []
        try:
            content = self._tree.read_bytes(self.folder / "kept.jsonl", max_bytes=_CASES_BYTES)
        except OSError as error:
            raise EngineFailed(f"What the search found cannot be read: {error.strerror}.") from error
        cases: dict[str, Case] = {}
        for line in content.splitlines()[:_MAX_CASES]:
            if len(line) <= _CASE_BYTES and (case := _case(line)) is not None:
                cases.setdefault(case.key, case)
        return list(cases.values())


def _case(line: bytes) -> Case | None:
    """The case in a line, if it can be written as a test."""
    try:
        case = _CASE.validate_json(line)
    except ValidationError:
        return None  # cut off when its process ended
    return case if well_formed(case) else None


def explore(job: GenerationJob, exchange: Exchange, seed: int) -> list[Case]:
    """Search for behaviours of the module.

    Raises:
        EngineFailed: The module cannot be imported, or its process kept ending before anything was found.
    """
    skip: list[str] = []
    left = job.budget_s
    for _ in range(_RESTARTS):
        started = time.monotonic()
        completed = _run(job, exchange, "explore", seed, budget_s=left, skip=skip)
        left -= time.monotonic() - started
        if job.workspace.cancelled() or exchange.done() or left < 1:
            break
        _raise_if_not_imported(job, exchange, completed)
        culprit = exchange.journal()
        if culprit in skip:
            break
        skip.append(culprit)
    return exchange.kept()


def _raise_if_not_imported(job: GenerationJob, exchange: Exchange, completed: Completed) -> None:
    name = job.module.name
    hint = f"Try `python -c 'import {name}'` in the component's environment."
    if reason := exchange.failed():
        raise EngineFailed(f"{name} cannot be imported: {reason}.", hint)
    if not exchange.journal():
        how = "ran out of time" if completed.stopped else f"ended with status {completed.returncode}"
        said = completed.stderr.strip().splitlines()[-1:]
        raise EngineFailed(f"{name} cannot be imported: its process {how}. {' '.join(said)[:300]}".strip(), hint)


def verified(job: GenerationJob, exchange: Exchange, cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases that hold again in fresh processes, under other conditions and in another order."""
    held = list(cases)
    for index, (hash_seed, zone, shifted) in enumerate(_CONDITIONS):
        if not held:
            break
        held = _verified_under(
            job, exchange, held, seed=seed + index, env={"PYTHONHASHSEED": hash_seed, "TZ": zone}, shifted=shifted
        )
    return held


def _verified_under(
    job: GenerationJob, exchange: Exchange, cases: list[Case], *, seed: int, env: dict[str, str], shifted: bool
) -> list[Case]:
    for _ in range(_RESTARTS):
        exchange.forget_held()
        exchange.write("cases.jsonl", "\n".join(json.dumps(replace(case, features=()).to_json()) for case in cases))
        _run(job, exchange, "verify", seed, budget_s=job.budget_s, skip=[], env=env, shifted=shifted)
        held = exchange.held(cases)
        if held is not None:
            return held
        culprit = exchange.journal()
        if not re.fullmatch("[0-9]{1,9}", culprit) or int(culprit) >= len(cases):
            break
        del cases[int(culprit)]
    return []


def _run(
    job: GenerationJob,
    exchange: Exchange,
    mode: str,
    seed: int,
    *,
    budget_s: float,
    skip: list[str],
    env: dict[str, str] | None = None,
    shifted: bool = False,
) -> Completed:
    workspace = job.workspace
    later = job.round > 1 or job.coverage.covered_statements > 0
    blamed = Counter(entry.partition("\t")[0] for entry in skip)
    description = {
        "mode": mode,
        "module": job.module.name,
        "project": str(workspace.project),
        "tests": str(workspace.tests),
        "folder": str(exchange.folder),
        "seed": seed,
        "budget_s": budget_s,
        "executions": int(budget_s * _EXECUTIONS_PER_S),
        "lines": list(job.coverage.missing_lines) if later else [],
        "skip": [entry.partition("\t")[2] for entry in skip],
        "skip_targets": [label for label, times in blamed.items() if times > 1],
        "shifted": shifted,
    }
    return workspace.run_python(
        PROGRAM,
        exchange.write(f"{mode}.json", json.dumps(description)),
        env={"PYTHONHASHSEED": "0", "TZ": "UTC", **(env or {})},
        limits=Limits(wall_s=budget_s + _OVERHEAD_S, memory_bytes=_MEMORY_BYTES),
    )
