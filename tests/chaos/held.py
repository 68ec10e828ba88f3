"""Messages that Redis' transport has handed out and that nobody has acknowledged: whose they are, why they stay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast

import redis


def held(client: redis.Redis, prefix: str) -> Iterator[str]:
    """One sentence for each; one that was renewed of late is held by a worker that lives."""
    now = time.time()
    times = dict(cast("list[tuple[bytes, float]]", client.zrange(f"{prefix}unacked_index", 0, -1, withscores=True)))
    messages = cast("dict[bytes, bytes]", client.hgetall(f"{prefix}unacked"))
    for tag, stored in messages.items():
        message: Any = json.loads(stored)[0]
        headers = message["headers"]
        since = f"renewed {now - times[tag]:.1f} s ago" if tag in times else "not in the index"
        yield (
            f"the message of {headers['id']} is held: {since}, eta {headers.get('eta')},"
            f" retries {headers.get('retries')}, redelivered {headers.get('redelivered', False)}"
        )
    if left_ms := max(0, client.pttl(f"{prefix}unacked_mutex")):
        yield f"whoever was to give messages back has left its lock, for {left_ms / 1000:.1f} s more"
