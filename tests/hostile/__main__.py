"""``python -m tests.hostile``: hostile trees, journals, archives, patches and wheels against the product.

Prints what was tried, by kind and stage, and every finding with what repeats it; fails when there is one, or when less
was tried than asked for. Nothing outside a temporary folder is written.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile import zone
from tests.hostile.places import COMPONENT
from tta_tasks.protocols import ReleaseRequest
from workers.component.wheels import Wheels
from workers.deployers.local import LocalDeployer
from workers.environment import prepare_environment
from workers.sandbox import detect_sandbox

ROOT = Path(__file__).parents[2]
#: Of ten thousand examples, how many of each kind. The last five go through real stages.
SHARES = {
    "trees": 2500, "repositories": 1000, "archives": 2700, "patches": 1500, "journals": 1270,
    "accepted": 250, "refactored": 250, "built": 250, "deployed": 250, "runs": 30,
}  # fmt: skip
STAGES = {
    "accepted": "acceptance", "refactored": "refactoring", "built": "build", "deployed": "deployment", "runs": "all",
}  # fmt: skip
#: Most examples of one process.
CHUNK = {True: 25, False: 500}
#: How often a batch is begun again whose process was ended.
ATTEMPTS = 4
#: Levels at which the sandbox promises what is looked at here.
PRIVATE = ("bubblewrap", "namespaces")
#: Findings printed in full; the rest is counted.
SHOWN = 40
_PYPROJECT = """\
[build-system]
requires = ["{requires}"]
build-backend = "{backend}"
[project]
name = "calc"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = ["src/calc"]
"""


@dataclass(frozen=True)
class Batch:
    """One process to come."""

    kind: str
    seed: int
    count: int


def batches(counts: dict[str, int], seed: int) -> list[Batch]:
    """Divide ``counts`` among processes, the ones that take longest first."""
    made = []
    for kind, count in counts.items():
        chunk = CHUNK[kind in STAGES]
        starts = range(0, count, chunk)
        made += [Batch(kind, seed * 1_000_000 + start, min(chunk, count - start)) for start in starts]
    return sorted(made, key=lambda batch: batch.kind not in STAGES)


def prepare(folder: Path) -> Path:
    """Make the environment that components run in, and a cache with what builds need; answer the interpreter."""
    os.environ["XDG_STATE_HOME"] = str(folder / "records")
    os.environ["TTA_CACHE_DIR"] = str(folder / "cache")
    os.environ["TMPDIR"] = str(folder / "tmp")
    (folder / "tmp").mkdir(parents=True)
    tempfile.tempdir = None
    sandbox = detect_sandbox()
    if sandbox.level not in PRIVATE:
        raise SystemExit(f"This host's sandbox is {sandbox.level}, which makes no promise that could be broken here.")
    tools = (("hatchling>=1.27", "hatchling.build"), ("setuptools>=77", "setuptools.build_meta"))
    for number, (requires, backend) in enumerate(tools):
        tree = folder / f"tools-{number}" / "tree"
        (tree / "src" / "calc").mkdir(parents=True)
        (tree / "src" / "calc" / "__init__.py").touch()
        (tree / "src" / "calc" / "ops.py").touch()
        (tree / "pyproject.toml").write_text(_PYPROJECT.format(requires=requires, backend=backend))
        wheel = Wheels(folder / "cache", sandbox).build(f"{number}" * 64, tree, COMPONENT, _unheard)
        target = {"path": str(folder / "srv")}
        LocalDeployer().release(ReleaseRequest(COMPONENT, "staging", f"{number}" * 64, wheel, sandbox, target))
    plain = folder / "plain"
    plain.mkdir()
    made = prepare_environment(plain, COMPONENT, sandbox=sandbox, cache=folder / "cache", progress=_unheard)
    return made.python


def _unheard(_message: str) -> None:
    """Progress that nobody waits for."""


def run(batch: Batch, number: int, folder: Path, python: Path) -> list[dict[str, Any]]:
    """Run a batch, and what is left of it once more where its process was ended; answer the tallies."""
    tallies: list[dict[str, Any]] = []
    for attempt in range(ATTEMPTS):
        left = batch.count - sum(tally["executed"] for tally in tallies)
        if left > 0:
            again = Batch(batch.kind, batch.seed + attempt * 7919, left)
            tallies.append(_run(again, folder / f"batch-{number:03}-{attempt}", folder, python))
    return tallies


def _run(batch: Batch, place: Path, folder: Path, python: Path) -> dict[str, Any]:
    for name in ("tmp", "work", "marks"):
        (place / name).mkdir(parents=True)
    if batch.kind in STAGES:
        # What builds and deployments write is a cache of the batch's own; environments stay where they are.
        shutil.copytree(folder / "shared" / "cache" / "uv", place / "cache" / "uv", symlinks=True)
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(place / "zone" / "home"),
        "TMPDIR": str(place / "tmp"),
        "TTA_CACHE_DIR": str(place / "cache"),
        "TTA_STATE_DIR": str(place / "zone" / "state" / ".tta"),
        # The product's own record of the folders it made.
        "XDG_STATE_HOME": str(place / "records"),
        "TTA_SANDBOX_READABLE": str(place / "marks"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "UV_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Hypothesis keeps what it learns there.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "hypothesis"),
    }
    argv = [sys.executable, "-m", "tests.hostile.batch", batch.kind, "--seed", str(batch.seed)]
    argv += ["--count", str(batch.count), "--folder", str(place), "--python", str(python)]
    with (place / "log").open("wb") as log:
        done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    report = place / "report.json"
    tally: dict[str, Any] = {"kind": batch.kind, "seed": batch.seed, "executed": 0, "ended": {}, "findings": []}
    if report.exists():
        tally = json.loads(report.read_text(encoding="utf-8"))
    if done.returncode or not tally.get("done"):
        said = (place / "log").read_text(errors="replace")
        current = place / "current"
        example = current.read_text(errors="replace") if current.exists() else ""
        how = "hangs" if "Timeout (" in said else f"status {done.returncode}"
        what = f"the worker was ended: {how}: {_decisive(said)}"
        tally["findings"].append({"what": what, "example": example[:4000]})
    if not tally["findings"]:
        shutil.rmtree(place, ignore_errors=True)
    return tally


def _decisive(log: str) -> str:
    """Where the main thread was when it hung, or the last words."""
    hung = log.rpartition("\n\nThread ")[2] if "Timeout (" in log else ""
    return hung[:1000] or log[-1500:]


def summary(tallies: Sequence[dict[str, Any]], counts: dict[str, int], seconds: float) -> str:
    """What was tried, and what was found."""
    titles = ("asked", "run", "code ran", "findings", "seconds", "slowest")
    lines = ["{:<14}{:<13}{:>7}{:>7}{:>10}{:>10}{:>9}{:>9}  ended as".format("kind", "stage", *titles)]
    for kind, asked in counts.items():
        mine = [tally for tally in tallies if tally["kind"] == kind]
        ended: Counter[str] = sum((Counter(tally["ended"]) for tally in mine), Counter())
        ran, found = (sum(tally.get(name, 0) for tally in mine) for name in ("executed", "ran"))
        findings = sum(len(tally["findings"]) for tally in mine)
        spent = sum(tally.get("seconds", 0) for tally in mine)
        told = ", ".join(f"{name} {count}" for name, count in ended.most_common(6))
        figures = f"{asked:>7}{ran:>7}{found or '-':>10}{findings:>10}{spent:>9.0f}"
        slowest = max((tally.get("slowest_s", 0) for tally in mine), default=0)
        lines.append(f"{kind:<14}{STAGES.get(kind, '-'):<13}{figures}{slowest:>9.1f}  {told}")
    staged = sum(tally["executed"] for tally in tallies if tally["kind"] in STAGES)
    total = sum(tally["executed"] for tally in tallies)
    peak = max((tally.get("peak_bytes", 0) for tally in tallies), default=0) >> 20
    levels = {tally.get("level") for tally in tallies if tally.get("level")}
    reads = all(tally.get("tells_reads") for tally in tallies)
    lines.append(
        f"{total} different examples, {staged} of them through a real stage, in {seconds:.0f} s;"
        f" sandbox: {', '.join(map(str, levels))}; largest worker: {peak} MiB;"
        f" a file that is merely read is {'noticed' if reads else 'NOT noticed on this file system'}"
    )
    return "\n".join(lines)


def findings(tallies: Sequence[dict[str, Any]]) -> str:
    """Every finding, those alike together."""
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for tally in tallies:
        for found in tally["findings"]:
            alike.setdefault((tally["kind"], found["what"]), []).append({**found, "seed": tally["seed"]})
    lines = []
    for (kind, what), each in list(alike.items())[:SHOWN]:
        first = each[0]
        lines.append(f"\n{len(each)}x {kind}: {what}\n    seed {first['seed']}, example {first.get('number', '?')}:")
        lines.append(f"    {first['example']}")
    more = len(alike) - SHOWN
    return "\n".join(lines) + (f"\nand {more} others" if more > 0 else "")


def main() -> int:
    """Run as many examples as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 20), help="repeats a session")
    parser.add_argument("--examples", type=int, default=10_000, help="of all kinds; a tenth goes through a real stage")
    parser.add_argument("--only", choices=SHARES, action="append", help="this kind alone; may be repeated")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where what failed stays; without, nothing stays")
    chosen = parser.parse_args()
    kinds = chosen.only or list(SHARES)
    whole = sum(SHARES[kind] for kind in kinds)
    counts = {kind: -(-chosen.examples * SHARES[kind] // whole) for kind in kinds}
    sys.stdout.write(f"seed {chosen.seed}\n")
    started, home = time.monotonic(), Path.home()
    # Not below /tmp, which the sandbox covers anyway.
    with tempfile.TemporaryDirectory(prefix="tta-hostile-", dir="/var/tmp", ignore_cleanup_errors=True) as temporary:
        folder = chosen.folder.absolute() if chosen.folder else Path(temporary)
        shutil.rmtree(folder / "shared", ignore_errors=True)
        python = prepare(folder / "shared")
        made = batches(counts, chosen.seed)
        before = zone.host_stamps(ROOT, home)
        shared = zone.host_stamps(folder / "shared", folder / "nowhere")
        with ThreadPoolExecutor(chosen.processes) as pool:
            done = pool.map(lambda job: run(job[1], job[0], folder, python), enumerate(made))
            tallies = [tally for each in done for tally in each]
        now = {**zone.host_stamps(ROOT, home), **zone.host_stamps(folder / "shared", folder / "nowhere")}
        changed = [path for path, stamp in {**before, **shared}.items() if now.get(path) != stamp]
        changed += [path for path in now if path not in before and path not in shared]
    found = findings(tallies)
    short = [kind for kind, count in counts.items() if sum(t["executed"] for t in tallies if t["kind"] == kind) < count]
    sys.stdout.write(f"{found}\n\n" if found else "")
    sys.stdout.write("".join(f"changed on this host: {path}\n" for path in sorted(changed)[:SHOWN]))
    sys.stdout.write("".join(f"fewer than asked for: {kind}\n" for kind in short))
    sys.stdout.write(f"{summary(tallies, counts, time.monotonic() - started)}\n")
    return 1 if found or changed or short else 0


if __name__ == "__main__":
    sys.exit(main())
