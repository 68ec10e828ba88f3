"""Runs the program in the sandbox: a search that goes on after crashes, then checks in fresh processes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tta_tasks.errors import EngineFailed
from tta_tasks.protocols import Completed, GenerationJob, Limits
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
#: Cases read from one exploration; a hostile module could write its own.
_MAX_CASES = 5000


def explore(job: GenerationJob, folder: Path, seed: int) -> list[Case]:
    """Search for behaviours of the module.

    Raises:
        EngineFailed: The module cannot be imported, or its process kept ending before anything was found.
    """
    skip: list[str] = []
    left = job.budget_s
    for _ in range(_RESTARTS):
        started = time.monotonic()
        completed = _run(job, folder, "explore", seed, budget_s=left, skip=skip)
        left -= time.monotonic() - started
        if job.workspace.cancelled() or (folder / "done.json").exists() or left < 1:
            break
        _raise_if_not_imported(job, folder, completed)
        culprit = (folder / "journal").read_bytes().rstrip(b" \0").decode(errors="replace")
        if culprit in skip:
            break
        skip.append(culprit)
    return _cases(folder / "kept.jsonl")


def _raise_if_not_imported(job: GenerationJob, folder: Path, completed: Completed) -> None:
    failed, journal = folder / "failed.json", folder / "journal"
    name = job.module.name
    hint = f"Try `python -c 'import {name}'` in the component's environment."
    if failed.exists():
        raise EngineFailed(f"{name} cannot be imported: {json.loads(failed.read_text())['reason']}.", hint)
    if not journal.exists() or not journal.read_bytes().strip(b" \0"):
        how = "ran out of time" if completed.stopped else f"ended with status {completed.returncode}"
        reason = completed.stderr.strip().splitlines()[-1:]
        raise EngineFailed(f"{name} cannot be imported: its process {how}. {' '.join(reason)[:300]}".strip(), hint)


def verified(job: GenerationJob, folder: Path, cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases that hold again in fresh processes, under other conditions and in another order."""
    held = list(cases)
    for index, (hash_seed, zone, shifted) in enumerate(_CONDITIONS):
        if not held:
            break
        held = _verified_under(
            job, folder, held, seed=seed + index, env={"PYTHONHASHSEED": hash_seed, "TZ": zone}, shifted=shifted
        )
    return held


def _verified_under(
    job: GenerationJob, folder: Path, cases: list[Case], *, seed: int, env: dict[str, str], shifted: bool
) -> list[Case]:
    answer = folder / "held.json"
    for _ in range(_RESTARTS):
        answer.unlink(missing_ok=True)
        lines = [json.dumps(replace(case, features=()).to_json()) for case in cases]
        (folder / "cases.jsonl").write_text("\n".join(lines), encoding="utf-8")
        _run(job, folder, "verify", seed, budget_s=job.budget_s, skip=[], env=env, shifted=shifted)
        if answer.exists():
            return [cases[index] for index in json.loads(answer.read_text(encoding="utf-8"))]
        culprit = (folder / "journal").read_text(errors="replace").strip(" \0")
        if not culprit.isdigit() or int(culprit) >= len(cases):
            break
        del cases[int(culprit)]
    return []


def _run(
    job: GenerationJob,
    folder: Path,
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
        "folder": str(folder),
        "seed": seed,
        "budget_s": budget_s,
        "executions": int(budget_s * _EXECUTIONS_PER_S),
        "lines": list(job.coverage.missing_lines) if later else [],
        "skip": [entry.partition("\t")[2] for entry in skip],
        "skip_targets": [label for label, times in blamed.items() if times > 1],
        "shifted": shifted,
    }
    path = folder / f"{mode}.json"
    path.write_text(json.dumps(description), encoding="utf-8")
    return workspace.run_python(
        PROGRAM,
        path,
        env={"PYTHONHASHSEED": "0", "TZ": "UTC", **(env or {})},
        limits=Limits(wall_s=budget_s + _OVERHEAD_S, memory_bytes=_MEMORY_BYTES),
    )


def _cases(file: Path) -> list[Case]:
    if not file.exists():
        return []
    cases: dict[str, Case] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[:_MAX_CASES]:
        try:
            case = Case.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue  # cut off when its process ended
        cases.setdefault(case.key, case)
    return list(cases.values())
