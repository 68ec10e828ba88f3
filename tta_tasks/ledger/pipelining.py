"""Sending a server more work before it has answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import redis

from tta_tasks.lua import Script

#: What is sent before the answer to what went before is read.
AHEAD = 1


def run_each(client: redis.Redis, script: Script, batches: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Run ``script`` on the arguments of each batch; the next one is made while the server is at work on the last.

    Args:
        client: The server.
        script: May be run again with the same arguments, as happens when a connection breaks.
        batches: Arguments by name; may be made as they are taken.

    Returns:
        The answers, one a batch.

    Raises:
        RedisError: As of a single command; the batches before are done.
    """
    answers: list[Any] = []
    rest, unanswered = iter(batches), deque[Mapping[str, Any]]()
    try:
        _run_ahead(client, script, rest, unanswered, answers)
    except redis.RedisError:
        # A single command knows how to load a script, to connect again, and to tell what is wrong.
        answers += [script(**batch) for batch in chain(unanswered, rest)]
    return answers


def _run_ahead(
    client: redis.Redis,
    script: Script,
    batches: Iterator[Mapping[str, Any]],
    unanswered: deque[Mapping[str, Any]],
    answers: list[Any],
) -> None:
    connection: Any = client.connection_pool.get_connection()

    def read(most: int) -> None:
        while len(unanswered) > most:
            answers.append(connection.read_response())
            unanswered.popleft()

    try:
        for batch in batches:
            unanswered.append(batch)
            connection.send_command("EVALSHA", script.sha, 0, *script.argv(batch))
            read(AHEAD)
        read(0)
    except BaseException:
        connection.disconnect()  # an answer may still be on its way
        raise
    finally:
        client.connection_pool.release(connection)
