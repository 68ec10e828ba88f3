"""Dramatiq: a group with a completion callback that reads all results."""

# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq[redis]==2.2.*"]
#
# [tool.bench]
# title = "Dramatiq"
# measures = ["submission", "fanout", "latency"]
# most = 5000
# ///

from __future__ import annotations

import os
import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Limits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.protocol import Peer

#: It waits for a result in one blocking read; redis-py 8 gives up on those after 5 s.
URL = f"{Peer.url}?socket_timeout=600"

broker = RedisBroker(url=URL)
results = RedisBackend(url=URL)
broker.add_middleware(Results(backend=results))
broker.add_middleware(GroupCallbacks(Limits(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="nothing", store_results=True)
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@dramatiq.actor(actor_name="gather", store_results=True)
def gather(ids: list[str]) -> int:
    """Count the results."""
    return len([results.get_result(nothing.message().copy(message_id=each)) for each in ids])


class Dramatiq(Peer):
    """``slots`` processes of one thread."""

    def work(self) -> None:
        """See :meth:`Peer.work`."""
        argv = [*(sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq"), "--processes", str(self.slots)]
        os.execv(sys.executable, [*argv, "--threads", "1"])  # noqa: S606 - becomes it

    def submit(self, n: int) -> None:
        """See :meth:`Peer.submit`."""
        for number in range(n):
            nothing.send(number)

    def fan_out(self, n: int) -> Any:  # noqa: ANN401 - Dramatiq's own
        """See :meth:`Peer.fan_out`."""
        messages = [nothing.message(number) for number in range(n)]
        callback = gather.message([message.message_id for message in messages])
        group = dramatiq.group(messages)
        group.add_completion_callback(callback)
        group.run()
        return callback

    def fan_in(self, pending: Any) -> int:  # noqa: ANN401 - Dramatiq's own
        """See :meth:`Peer.fan_in`."""
        return int(pending.get_result(block=True, timeout=300_000))

    def once(self) -> None:
        """See :meth:`Peer.once`."""
        nothing.send(1).get_result(block=True, timeout=60_000)


PEER = Dramatiq
