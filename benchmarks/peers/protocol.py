"""How the harness speaks with a peer. Standard library only: it is imported in every peer's own environment.

A peer's file says in a block of script metadata what it needs installed, and under ``[tool.bench]`` the ``measures`` it
takes part in, and the ``most`` tasks it is given at once. It is run in two roles:

    python -m benchmarks.peers.NAME work        becomes the workers: ``BENCH_SLOTS`` tasks at once
    python -m benchmarks.peers.NAME produce     answers questions, a JSON object a line, until its input ends

Both find the broker in ``BENCH_URL``. Times are taken inside the producer, so that the harness costs nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

Answer = dict[str, Any]


class Peer:
    """What a system is asked to do. A peer overrides what it can."""

    url: str = os.environ.get("BENCH_URL", "")
    slots: int = int(os.environ.get("BENCH_SLOTS", "2"))

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


def main(peer: Peer) -> None:
    """Play the role that the command line names."""
    if sys.argv[1] == "work":
        peer.work()
    else:
        produce(peer)


def produce(peer: Peer) -> None:
    """Answer questions until there are no more."""
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


ASKED: dict[str, Callable[..., Answer]] = {"submission": _submission, "fanout": _fanout, "latency": _latency}
