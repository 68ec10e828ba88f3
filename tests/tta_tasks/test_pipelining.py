"""Work sent ahead of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tta_tasks.ledger.pipelining import run_each
from tta_tasks.lua import Script, load

#: Answers 1 for what it sees the first time.
SEE = "-- args: number\nreturn redis.call('SADD', 'seen', number)"


@pytest.fixture
def see(tmp_path: Path) -> Path:
    """The script ``SEE``."""
    path = tmp_path / "see.lua"
    path.write_text(SEE, encoding="utf-8")
    return path


def test_answers_come_in_the_order_of_the_batches(valkey: redis.Redis, see: Path) -> None:
    """Each answer is its own batch's, also where the server does not have the script yet."""
    valkey.script_flush()
    script = Script(valkey, see)
    for first in (1, 4):
        batches = [{"number": number} for number in (first, 2 * first, first, 3 * first, 2 * first)]
        assert run_each(valkey, script, batches) == [1, 1, 0, 1, 0]
        valkey.delete("seen")
    assert run_each(valkey, script, []) == []


def test_batches_go_on_where_a_connection_breaks(valkey: redis.Redis, valkey_url: str, see: Path) -> None:
    """What was not answered is sent again on another one, and all of it arrives."""
    valkey.script_load(load(see).text)

    def batches() -> Iterator[dict[str, int]]:
        for number in range(6):
            if number == 3:
                valkey.client_kill_filter(_type="normal", skipme=True)
            yield {"number": number}

    with redis.Redis.from_url(valkey_url) as client:
        answers = run_each(client, Script(client, see), batches())
        assert client.ping()
    # The one under way may have been done by the time its answer was lost.
    assert [*answers[:2], *answers[3:]] == [1] * 5
    assert valkey.smembers("seen") == {str(number).encode() for number in range(6)}


def test_fault_is_told_and_the_connection_is_none_of_the_next_one_s(valkey: redis.Redis, tmp_path: Path) -> None:
    """A script that fails raises what it said; nothing of it is left for whoever asks next."""
    path = tmp_path / "push.lua"
    path.write_text("-- args: number\nreturn redis.call('LPUSH', 'seen', number)", encoding="utf-8")
    script = Script(valkey, path)
    valkey.sadd("seen", "a set")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        run_each(valkey, script, [{"number": number} for number in range(3)])
    assert valkey.smembers("seen") == {b"a set"}
