"""How the harness speaks with a peer. Standard library only: it is imported in every peer's own environment.

A peer's file says in a block of script metadata what it needs installed, and under ``[tool.bench]`` the ``measures`` it
takes part in, and the ``most`` tasks it is given at once. It names its class ``PEER``, and is run in two roles:

    python -m benchmarks.peers NAME work        becomes the workers: ``BENCH_SLOTS`` tasks at once
    python -m benchmarks.peers NAME produce     answers questions, a JSON object a line, until its input ends

Both find the broker in ``BENCH_URL``, and a folder for their files in ``BENCH_FOLDER``. Times are taken inside the
producer, so that the harness costs nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

Answer = dict[str, Any]
#: Urgent tasks before one backlog.
MOST_URGENT = 20


@dataclass(frozen=True)
class Work:
    """The reference workload, in seconds: testing, then the header side by side, then collection and deployments."""

    testing: float
    #: Of generation, one a module, and then of refactoring.
    header: list[float]
    #: Staging and production, one after the other.
    deployments: list[float]
    #: One task after another, for contrast.
    sequential: bool = False


class Peer:
    """What a system is asked to do. A peer overrides what it can."""

    url: str = os.environ.get("BENCH_URL", "")
    slots: int = int(os.environ.get("BENCH_SLOTS", "2"))

    def connect(self) -> None:
        """Make the producer ready."""

    def work(self) -> None:
        """Be the workers until killed."""
        raise NotImplementedError

    def submit(self, n: int) -> None:
        """Hand ``n`` no-op tasks in, as one usually does; return when all are accepted."""
        raise NotImplementedError

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - each peer's own
        """Hand in ``n`` no-op tasks and a callback that gets all their results."""
        raise NotImplementedError

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - what fan_out answered
        """Wait for the callback; answer how many results it had."""
        raise NotImplementedError

    def once(self) -> None:
        """Hand one no-op task in, and see its result."""
        raise NotImplementedError

    def backlog(self, n: int, seconds: float) -> None:
        """Hand in ``n`` tasks of the lowest priority that take ``seconds`` each."""
        raise NotImplementedError

    def urgent(self) -> float:
        """Hand in one task of the highest priority; answer when it began, in epoch seconds."""
        raise NotImplementedError

    def run_stages(self, work: Work) -> None:
        """Do the work of a run, as far side by side as it may be, and see its end."""
        raise NotImplementedError

    def run_modules(self, n: int, runs: int) -> None:
        """Do ``runs`` runs at once, of ``n`` modules each whose tasks pass on what real ones do; see their ends."""
        raise NotImplementedError


def produce(peer: Peer) -> None:
    """Answer questions until there are no more."""
    peer.connect()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not pass for an answer
    for line in sys.stdin:
        question = json.loads(line)
        _tell(answers, ASKED[question.pop("do")](peer, **question))


def _tell(answers: TextIO, answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _submission(peer: Peer, n: int) -> Answer:
    began = time.perf_counter()
    peer.submit(n)
    return {"seconds": time.perf_counter() - began}


def _fanout(peer: Peer, n: int) -> Answer:
    began = time.perf_counter()
    pending = peer.fan_out(n)
    submitted = time.perf_counter()
    found = peer.fan_in(pending)
    ended = time.perf_counter()
    if found != n:
        raise SystemExit(f"The callback had {found} of {n} results.")
    return {"seconds": ended - began, "submit_s": submitted - began}


def _latency(peer: Peer, n: int, most_s: float) -> Answer:
    each: list[float] = []
    until = time.perf_counter() + most_s
    while len(each) < n and time.perf_counter() < until:
        began = time.perf_counter()
        peer.once()
        each.append(time.perf_counter() - began)
    return {"each_s": each}


def _priority(peer: Peer, n: int, seconds: float) -> Answer:
    peer.backlog(n, seconds)
    # Only while at least half of the backlog must still be there.
    until = time.time() + n * seconds / peer.slots / 2
    waited: list[float] = []
    while not waited or (time.time() < until and len(waited) < MOST_URGENT):
        called = time.time()
        waited.append(peer.urgent() - called)
    return {"seconds": sorted(waited)[len(waited) // 2], "worst_s": max(waited), "tasks": len(waited)}


def _backlog(peer: Peer, n: int, seconds: float) -> Answer:
    peer.backlog(n, seconds)
    return {}


def _makespan(peer: Peer, **work: Any) -> Answer:  # noqa: ANN401 - as JSON has it
    began = time.perf_counter()
    peer.run_stages(Work(**work))
    return {"seconds": time.perf_counter() - began}


def _growth(peer: Peer, n: int, runs: int) -> Answer:
    began = time.perf_counter()
    peer.run_modules(n, runs)
    return {"seconds": time.perf_counter() - began}


ASKED: dict[str, Callable[..., Answer]] = {
    "submission": _submission,
    "fanout": _fanout,
    "latency": _latency,
    "priority": _priority,
    "backlog": _backlog,
    "makespan": _makespan,
    "growth": _growth,
}
