"""Work sent ahead of the answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tta_tasks.ledger.pipelining import run_each

#: Answers 1 for what it sees the first time.
SEE = "return redis.call('SADD', 'seen', ARGV[1])"


def test_answers_come_in_the_order_of_the_batches(valkey: redis.Redis) -> None:
    """Each answer is its own batch's, also where the server does not have the script yet."""
    valkey.script_flush()
    script = valkey.register_script(SEE)
    for first in (1, 4):
        batches = [[number] for number in (first, 2 * first, first, 3 * first, 2 * first)]
        assert run_each(valkey, script, batches) == [1, 1, 0, 1, 0]
        valkey.delete("seen")
    assert run_each(valkey, script, []) == []


def test_batches_go_on_where_a_connection_breaks(valkey: redis.Redis, valkey_url: str) -> None:
    """What was not answered is sent again on another one, and all of it arrives."""
    valkey.script_load(SEE)

    def batches() -> Iterator[list[int]]:
        for number in range(6):
            if number == 3:
                valkey.client_kill_filter(_type="normal", skipme=True)
            yield [number]

    with redis.Redis.from_url(valkey_url) as client:
        answers = run_each(client, client.register_script(SEE), batches())
        assert client.ping()
    # The one under way may have been done by the time its answer was lost.
    assert [*answers[:2], *answers[3:]] == [1] * 5
    assert valkey.smembers("seen") == {str(number).encode() for number in range(6)}


def test_fault_is_told_and_the_connection_is_none_of_the_next_one_s(valkey: redis.Redis) -> None:
    """A script that fails raises what it said; nothing of it is left for whoever asks next."""
    script = valkey.register_script("return redis.call('LPUSH', 'seen', ARGV[1])")
    valkey.sadd("seen", "a set")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        run_each(valkey, script, [[number] for number in range(3)])
    assert valkey.smembers("seen") == {b"a set"}
