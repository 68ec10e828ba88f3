"""The benchmarks' own machinery. What they measure decides no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import environments, floor, report, samples
from benchmarks.report import tables
from benchmarks.samples import Measured, Sample

#: Measures that take seconds.
QUICK = ("submission", "fanout", "latency", "priority")
FACTS = {"commit": "abc", "python": "3.11.2", "cores": 2, "cpu": "some", "slots": 2}


def _measured(*taken: Sample, failures: tuple[str, ...] = ()) -> Measured:
    return Measured(FACTS, 1.0, taken, failures)


def _sample(system: str, number: int, seconds: float) -> Sample:
    return Sample(system, "1000", number, {"seconds": seconds, "cpu_workers_s": 2 * seconds, "cpu_broker_s": 0.1}, 0.5)


def test_a_ratio_is_taken_within_each_round() -> None:
    """Load that slows a whole round down changes no ratio: the median of the ratios, not the ratio of the medians."""
    measured = _measured(
        *(_sample("raw", number, seconds) for number, seconds in enumerate((1.0, 10.0, 2.0))),
        *(_sample("tta", number, seconds) for number, seconds in enumerate((3.0, 30.0, 5.0))),
    )
    assert measured.ratio("tta", "raw", "1000", "seconds") == 3.0
    assert measured.median("tta", "1000", "seconds") == 5.0


def test_a_round_that_lacks_one_of_both_has_no_ratio() -> None:
    """What was measured in one round only is compared within that round; what never met is not compared."""
    measured = _measured(_sample("raw", 0, 1.0), _sample("raw", 1, 2.0), _sample("rq", 1, 8.0), _sample("saq", 2, 1.0))
    assert measured.ratio("rq", "raw", "1000", "seconds") == 4.0
    assert measured.ratio("saq", "raw", "1000", "seconds") is None


def test_measures_are_merged_in_one_file(tmp_path: Path) -> None:
    """Samples survive the way to the file and back; a measure that is taken again replaces only itself."""
    file = tmp_path / "benchmarks.json"
    first, second = _measured(_sample("raw", 0, 1.0)), _measured(_sample("tta", 0, 2.0), failures=("rq: it ended",))
    samples.save(file, {"fanout": first})
    samples.save(file, samples.load(file) | {"latency": second})
    assert samples.load(file) == {"fanout": first, "latency": second}


def test_the_report_tells_of_losses_and_of_what_was_not_measured() -> None:
    """A system that is slower than another is listed below it, with its ratio; a failed one is named."""
    measured = _measured(_sample("raw", 0, 1.0), _sample("tta", 0, 4.0), _sample("huey", 0, 2.0), failures=("rq: no",))
    page = report.render({"fanout": measured}, "figure.svg")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[2:] == [tables.title("raw"), tables.title("huey"), tables.title("tta")]
    assert "| 4 |" in page
    assert "Not measured: rq: no" in page


@pytest.mark.parametrize("name", environments.names())
def test_a_peer_says_what_it_needs(name: str) -> None:
    """Each peer's file has a block of metadata, and names measures that there are."""
    peer = environments.candidate(name)
    assert peer.title
    assert peer.measures <= set(report.ORDER)
    assert peer.requires or name in {"tta", "pool"}


@pytest.mark.parametrize(
    ("tasks", "slots", "least"),
    [
        ([3.0] * 10 + [3.0], 5, 9.0),  # one of five does three
        ([9.0, 1.0, 1.0], 5, 9.0),  # the longest
        ([1.0, 2.0, 3.0], 1, 6.0),  # the sum
        ([4.0, 3.0, 3.0, 2.0, 2.0], 2, 7.0),  # half of the sum
        ([], 3, 0.0),
    ],
)
def test_the_floor_is_the_greatest_of_the_known_bounds(tasks: list[float], slots: int, least: float) -> None:
    """Each of the bounds decides where it is the greatest."""
    assert floor.header_s(tasks, slots) == pytest.approx(least)


@pytest.mark.stack
@pytest.mark.slow
def test_one_command_measures_and_reports(tmp_path: Path) -> None:
    """With few tasks and one round, every measure of the product runs against a real broker and ends in the report."""
    argv = [
        *(sys.executable, "-m", "benchmarks", "--out", str(tmp_path), "--cache", str(tmp_path / "cache")),
        *("--peers", "tta", "--rounds", "1", "--most", "10", "--only", *QUICK),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "reference" / "benchmarks.json").read_text())
    assert sorted(measured) == sorted(QUICK)
    assert all(each["samples"] and not each["failures"] for each in measured.values())
    page = (tmp_path / "reference" / "benchmarks.md").read_text()
    assert all(f"## {report.measure_of(name).TITLE}" in page for name in measured)
    assert (tmp_path / "reference" / "benchmarks.svg").read_bytes().startswith(b"<?xml")
