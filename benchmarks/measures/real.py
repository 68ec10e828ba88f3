"""Real: whole runs of the calculator and of two packages, cold, warm, and with one module changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import packages
from benchmarks.arena import Arena
from benchmarks.measures import Options
from benchmarks.packages import PACKAGES, Package
from benchmarks.report.tables import NONE, number, table
from benchmarks.samples import Measured, Sample
from benchmarks.system import ROOT

TITLE = "Real runs"
CASES = ("cold", "nothing changed", "one module changed")
STAGES = ("testing", "generation", "refactoring", "collection", "staging", "production")
WITHIN_S = 400.0


def run(arena: Arena, options: Options) -> Iterator[Sample]:
    """Each once: a run takes its time, and its stages are what is of interest."""
    del options
    for package in PACKAGES:
        folder = arena.folder / f"real-{package.name}"
        folder.mkdir()
        tree, spec = packages.prepared(package, arena.cache, folder)
        for case in CASES:
            if case == CASES[-1]:
                packages.changed(package, tree)
            try:
                values = _run(package, tree, spec, arena.slots)
            except subprocess.SubprocessError as error:
                arena.failures.append(f"{package.name}, {case}: {error}")
                break
            yield Sample(package.name, case, 0, values)


def _run(package: Package, tree: Path, spec: Path, slots: int) -> dict[str, float]:
    folder = tree.parent
    output = folder / "output"
    tta = [str(Path(sys.executable).with_name("tta")), "run", str(spec), "--repo", str(tree)]
    argv = [*tta, *("--component", package.component, "--target", package.target, "--async")]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TTA_")}
    variables |= {"TTA_STATE_DIR": str(folder / "state"), "TTA_CACHE_DIR": str(folder / "cache")}
    began = time.perf_counter()
    done = subprocess.run(
        [*argv, "--slots", str(slots), "--output", str(output)],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    seconds = time.perf_counter() - began
    if not (output / "report.json").exists():
        raise subprocess.SubprocessError(f"exit {done.returncode}: {done.stderr.strip()[-400:]}")
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    spans = report["timeline"]
    generated = [span for span in spans if span["stage"] == "generation" and not span["cached"]]
    return {
        "seconds": seconds,
        "measured_s": report["measured_s"],
        "floor_s": report["floor_s"],
        "generated": len(generated),
        "modules": sum(span["stage"] == "generation" for span in spans),
        "coverage": report["coverage_after"] or 0.0,
        **{f"{stage}_s": timing / 1000 for stage, timing in report["stage_timings"].items()},
    }


def section(measured: Measured) -> str:
    """Where the time goes, stage by stage."""
    rows = []
    for sample in measured.samples:
        values = sample.values
        cold = measured.median(sample.system, CASES[0], "seconds")
        share = number(values["seconds"] / cold, 100) if cold else NONE
        stages = (number(values.get(f"{stage}_s")) for stage in STAGES)
        generated = f"{values['generated']:.0f} of {values['modules']:.0f}"
        name = f"{sample.system}, {sample.case}"
        rows.append((name, number(values["seconds"]), share, number(values["floor_s"]), *stages, generated))
    head = ("run", "s", "% of cold", "floor s", *STAGES, "modules generated")
    return f"""\
`tta run --async` on the local stack, from the command to its end: stack started, component's environment made, all
stages. *Cold* is an empty state and cache folder, *nothing changed* the same command again, *one module changed* with
a function added to one module that no other imports. A stage's seconds are from the start of its first task to the end
of its last; generation and refactoring overlap. Measured once.

{table(head, rows)}
"""
