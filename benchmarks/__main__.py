"""``make bench``: measure, write every value to JSON, and the report of all of them."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from benchmarks import environments
from benchmarks.arena import Arena, arena, conditions
from benchmarks.measures import Options
from benchmarks.report import ORDER, measure_of, render, scale
from benchmarks.report.figure import draw
from benchmarks.samples import Measured, Sample, load, save
from benchmarks.system import ROOT

OUT = ROOT / "docs"


def main() -> int:
    """Measure what the command line names; measures that are not named keep what was measured before."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started must not outlive it
    cache: Path = options.cache.expanduser().absolute()
    file: Path = options.out / "reference" / "benchmarks.json"
    for name in options.only:
        with arena(cache, options.peers, options.slots) as ground:
            began = time.monotonic()
            facts = conditions() | {"slots": options.slots}
            samples = _taken(name, ground, Options(rounds=options.rounds, most=options.most))
            took_s = time.monotonic() - began
            # Read now: another measure may have been merged meanwhile.
            measured = load(file) | {name: Measured(facts, took_s, samples, tuple(ground.failures))}
            save(file, measured)
    _report(options.out, file)
    return 0


def _taken(name: str, ground: Arena, options: Options) -> tuple[Sample, ...]:
    samples = []
    for sample in measure_of(name).run(ground, options):
        samples.append(sample)
        _say(f"{name} {sample.case} {sample.system} " + " ".join(f"{k}={v:.4g}" for k, v in sample.values.items()))
    for failure in ground.failures:
        _say(f"failed: {failure}")
    return tuple(samples)


def _report(out: Path, file: Path) -> None:
    measured = load(file)
    page = file.with_suffix(".md")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(measured, "benchmarks.svg"), encoding="utf-8")
    draw(measured, file.with_suffix(".svg"))
    _say(str(page))
    if {"growth", "fleet"} <= measured.keys():
        page = out / "explanation" / "scale.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(scale.render(measured["growth"], measured["fleet"]), encoding="utf-8")
        _say(str(page))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress of a long command


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", choices=ORDER, default=list(ORDER), metavar="MEASURE", help=", ".join(ORDER)
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=environments.names(),
        default=environments.names(),
        metavar="PEER",
        help=", ".join(environments.names()),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2, help="tasks at once, of every system")
    parser.add_argument("--most", type=int, default=10_000, help="the largest number of tasks at once")
    parser.add_argument(
        "--cache", type=Path, default=Path("~/.cache/tta-tasks/benchmarks"), help="the peers' environments"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pages")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
