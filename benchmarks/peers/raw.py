"""The limit: a loop that pushes to a Redis list, and loops that pop from it. No retry, no redelivery, no record."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["redis==8.1.0"]
#
# [tool.bench]
# title = "raw LPUSH/BRPOP"
# measures = ["submission", "fanout", "latency", "priority"]
# most = 10000
# ///

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

import redis

from benchmarks.peers.protocol import Peer

QUEUE = "raw"


class Raw(Peer):
    """Four commands a task: push, pop, push the result, count it."""

    def __init__(self) -> None:
        self.client = redis.Redis.from_url(self.url, socket_timeout=None)

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        for _ in range(self.slots - 1):
            if os.fork() == 0:
                break
        client = redis.Redis.from_url(self.url, socket_timeout=None)
        while True:
            popped: Any = client.brpop([QUEUE])
            job = json.loads(popped[1])
            if job["seconds"]:
                time.sleep(job["seconds"])
            client.rpush(f"{job['group']}:results", json.dumps({"id": job["id"], "at": time.time()}))
            if client.incr(f"{job['group']}:count") == job["of"]:
                results: Any = client.lrange(f"{job['group']}:results", 0, -1)
                client.lpush(f"{job['group']}:done", len(results))

    def push(self, n: int, of: int, seconds: float = 0.0) -> str:
        """Push ``n`` jobs of a group of ``of``."""
        group = uuid.uuid4().hex
        for number in range(n):
            self.client.lpush(QUEUE, json.dumps({"id": number, "group": group, "of": of, "seconds": seconds}))
        return group

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        self.push(n, of=0)

    def fan_out(self, n: int) -> str:
        """See :meth:`Peer.fan_out`."""
        return self.push(n, of=n)

    def fan_in(self, pending: str) -> int:
        """See :meth:`Peer.fan_in`."""
        popped: Any = self.client.brpop([f"{pending}:done"])
        return int(popped[1])

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        self.fan_in(self.fan_out(1))

    def backlog(self, n: int, seconds: float) -> None:
        """See :meth:`Peer.backlog`; a list has no priorities."""
        self.push(n, of=0, seconds=seconds)

    def urgent(self) -> float:
        """See :meth:`Peer.urgent`."""
        group = self.fan_out(1)
        self.fan_in(group)
        results: Any = self.client.lrange(f"{group}:results", 0, 0)
        return float(json.loads(results[0])["at"])


PEER = Raw
