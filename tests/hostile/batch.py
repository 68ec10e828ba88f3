"""A batch of examples of one kind, in a process of its own: the worker that must not be ended."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import hashlib
import io
import json
import logging
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile.kinds import KINDS, Kind
from tests.hostile.places import Place
from tests.hostile.zone import Zone, cache_stamps
from tta_tasks.settings import settings as product_settings
from workers.sandbox import detect_sandbox

#: Address space of the worker, and most memory it may ever hold.
ADDRESS_BYTES, RESIDENT_BYTES = 3 << 30, 700 << 20
#: Largest file it may write: a hole must not fill the disk.
FILE_BYTES = 1 << 30
#: Seconds a process of an example is given to vanish after the sandbox has said that all have ended.
GONE_S = 10.0
#: Most seeds that are tried for as many different examples as asked for.
ATTEMPTS = 20
_SUBREAPER = 36


@dataclass
class Tally:
    """What a batch found; written to its report after each example, so that nothing is lost with the process."""

    kind: str
    seed: int
    count: int
    stage: str = ""
    #: Different examples that were tried to their end.
    executed: int = 0
    #: Those in which hostile code ran, where there is any.
    ran: int = 0
    #: How they ended -> how many.
    ended: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, object]] = field(default_factory=list)
    peak_bytes: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    tells_reads: bool = False
    level: str = ""
    done: bool = False

    def write(self, report: Path) -> None:
        """Write it, in one step."""
        new = report.with_suffix(".new")
        new.write_text(json.dumps(vars(self)), encoding="utf-8")
        new.replace(report)


class Batch:
    """Runs examples of one kind, each followed by a look at all that must not have happened.

    Args:
        tally: What is to be done, and where it is counted.
        folder: Its folder; holds the zone and the examples.
        python: Interpreter of the components' environment.
        report: Where the tally goes.
    """

    def __init__(self, tally: Tally, folder: Path, python: Path, report: Path) -> None:
        self.tally, self.folder, self.report = tally, folder, report
        self.kind: Kind = KINDS[tally.kind]
        self.python = python
        self.sandbox = detect_sandbox()
        tally.level, tally.stage = self.sandbox.level, self.kind.stage
        self.log = io.StringIO()
        self.seen: set[bytes] = set()
        self.current, self.mark = folder / "current", folder / "marks" / "ran"
        self.mark.parent.mkdir(exist_ok=True)
        os.mkfifo(self.mark)
        self.marks = os.open(self.mark, os.O_RDWR | os.O_NONBLOCK)

    def run(self, zone: Zone) -> None:
        """Run examples until there were as many different ones as asked for."""
        self.tally.tells_reads = zone.tells_reads
        for attempt in range(ATTEMPTS):
            if self.tally.executed < self.tally.count:
                # More than are missing: the first ones are the simplest, and the same for each seed.
                self._some(zone, self.tally.seed + attempt * 1_000_003, self.tally.count + attempt * 50)
        self.tally.done = True
        self.tally.write(self.report)

    def _some(self, zone: Zone, number: int, count: int) -> None:
        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(self.kind.strategy)
        def each(example: object) -> None:
            self._one(zone, example)

        each()

    def _one(self, zone: Zone, example: object) -> None:
        key = hashlib.sha256(repr(example).encode(errors="backslashreplace")).digest()
        if key in self.seen or self.tally.executed >= self.tally.count:
            return
        self.seen.add(key)
        self._note(example)
        place = Place(
            self.folder / "work" / f"{self.tally.executed:05}",
            zone,
            self.python,
            self.sandbox,
            self.mark,
            readable=(self.python.parents[1],),
        )
        place.folder.mkdir(parents=True)
        staff, cache = self.kind.staff(), cache_stamps(self.folder / "cache" / "uv")
        self.log.seek(0)
        self.log.truncate()
        started = time.monotonic()
        faulthandler.dump_traceback_later(self.kind.hangs_s, exit=True)
        try:
            problems = self._tried(place, example)
        finally:
            faulthandler.cancel_dump_traceback_later()
        took = time.monotonic() - started
        self.tally.seconds, self.tally.slowest_s = self.tally.seconds + took, max(self.tally.slowest_s, took)
        now = cache_stamps(self.folder / "cache" / "uv")
        problems += [f"poisoned: {path}" for path, stamp in cache.items() if now.get(path) != stamp]
        problems += self._looked(place, staff)
        self.tally.executed += 1
        self.tally.ran += self._acted()
        self.tally.ended[place.ended] += 1
        self.tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if problems:
            self._found(place, example, problems)
        place.remove()
        place.folder.rmdir()
        self.tally.write(self.report)

    def _tried(self, place: Place, example: object) -> list[str]:
        """Run it; answer what came out that should not."""
        try:
            place.ended = self.kind.run(place, example)
        except self.kind.foreseen as error:
            place.ended = type(error).__name__
            place.said.append(str(error))
        except MemoryError:
            place.ended = "MemoryError"
            return [f"memory: {_where()}"]
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            place.ended = f"unforeseen {type(error).__name__}"
            place.said.append(str(error))
            return [f"unforeseen: {type(error).__name__}: {str(error)[:200]} {_where()}"]
        return []

    def _looked(self, place: Place, staff: frozenset[int]) -> list[str]:
        """What is not as it was, or not where it belongs."""
        problems = [f"left: {name}" for name in _left(staff)]
        if (now := self.kind.staff()) != staff:
            problems.append(f"a worker was ended: {sorted(staff)} are {sorted(now)}")
        zone = place.zone
        problems += zone.breaches()
        place.said.append(self.log.getvalue())
        if zone.leaks(place.said):
            problems.append("secret: in what came back")
        problems += [f"secret: in {name}" for name in zone.carriers(place.folder)[:3]]
        if (peak := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) > max(
            RESIDENT_BYTES, self.tally.peak_bytes
        ):
            problems.append(f"memory: the worker has held {peak >> 20} MiB")
        return problems

    def _acted(self) -> bool:
        """Whether hostile code has run since this was asked before."""
        try:
            return bool(os.read(self.marks, 1 << 16))
        except BlockingIOError:
            return False

    def _found(self, place: Place, example: object, problems: list[str]) -> None:
        for problem in problems:
            text = problem.replace(str(place.folder), "EXAMPLE").replace(str(place.zone.folder), "ZONE")
            self.tally.findings.append({"what": text, "number": place.folder.name, "example": repr(example)[:4000]})

    def _note(self, example: object) -> None:
        """Say what is tried next, for the case that this process does not live to say it."""
        self.current.write_text(repr(example), encoding="utf-8", errors="backslashreplace")


def _where() -> str:
    """The last lines of ours that an error went through."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "site-packages" not in frame.filename]
    return f"({' > '.join(ours[-4:])})"


def _left(staff: frozenset[int]) -> Iterator[str]:
    """Processes that examples have left behind, which are ended here."""
    me = psutil.Process()
    until = time.monotonic() + GONE_S
    while alive := [child for child in me.children(recursive=True) if child.pid not in staff and _alive(child)]:
        if time.monotonic() > until:
            for child in alive:
                with contextlib.suppress(psutil.Error):
                    yield f"a process, {child.name()}"
                    child.kill()
            return
        time.sleep(0.02)


def _alive(child: psutil.Process) -> bool:
    try:
        if child.status() != psutil.STATUS_ZOMBIE:
            return True
        with contextlib.suppress(ChildProcessError):  # an orphan that came to us
            os.waitpid(child.pid, os.WNOHANG)
    except psutil.NoSuchProcess:
        pass
    return False


def main() -> None:
    """Run the batch that the arguments describe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True)
    chosen = parser.parse_args()
    # Orphans come to us, where they are seen.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for limit, most in ((resource.RLIMIT_AS, ADDRESS_BYTES), (resource.RLIMIT_FSIZE, FILE_BYTES)):
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
    tally = Tally(chosen.kind, chosen.seed, chosen.count)
    batch = Batch(tally, chosen.folder, chosen.python, chosen.folder / "report.json")
    logging.basicConfig(stream=batch.log, level=logging.DEBUG)
    logging.getLogger("hypothesis").setLevel(logging.WARNING)
    with Zone(chosen.folder / "zone") as zone:
        os.environ |= {"TTA_LLM_API_KEY_FILE": str(zone.path("key")), "TTA_WEBHOOK_SECRET": zone.secret}
        product_settings()
        zone.forget()
        batch.run(zone)


if __name__ == "__main__":
    main()
