"""Results by content: the same work has the same key, other work another, and results are kept while they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from tta_tasks.cache import ResultCache, content_key
from tta_tasks.errors import StoreUnavailable
from tta_tasks.settings import Settings

KEY = "0" * 64


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("x = 1\n")
    (root / "src" / "b.py").write_text("y = 2\n")
    return root


def cache_at(url: str, prefix: str = "t:") -> ResultCache:
    return ResultCache(Settings(broker_url=SecretStr(url), key_prefix=prefix, retention_s=3700))


def _key(root: Path, *inputs: str, **changed: Any) -> str:  # noqa: ANN401 - any of the arguments
    facts: dict[str, Any] = {"stage": "generation", "version": "e 1", "request": {"seed": 0, "module": "a"}}
    return content_key(**{**facts, **changed}, inputs=[root / path for path in inputs], root=root)


def test_same_work_same_key(tree: Path, tmp_path: Path) -> None:
    """Where the tree lies and in which order facts and files are named does not matter."""
    key = _key(tree, "src/a.py", "src/b.py")
    moved = tree.rename(tmp_path / "elsewhere")
    assert _key(moved, "src/b.py", "src/a.py", "src/a.py", request={"module": "a", "seed": 0}) == key


def test_other_work_other_key(tree: Path) -> None:
    """Each fact is part of the key: stage, version, request, which files, their names, and their bytes."""
    keys = [
        _key(tree, "src/a.py"),
        _key(tree, "src/a.py", stage="testing"),
        _key(tree, "src/a.py", version="e 2"),
        _key(tree, "src/a.py", request={"seed": 1, "module": "a"}),
        _key(tree, "src/b.py"),
        _key(tree, "src/a.py", "src/b.py"),
        _key(tree, "src/a.py", "src/absent.py"),
        _key(tree),
    ]
    (tree / "src" / "a.py").write_text("x = 2\n")
    keys.append(_key(tree, "src/a.py"))
    (tree / "src" / "a.py").rename(tree / "src" / "absent.py")
    keys.append(_key(tree, "src/absent.py"))
    assert len(set(keys)) == len(keys)


def test_input_outside_the_tree_is_refused(tree: Path, tmp_path: Path) -> None:
    """A key never depends on what is not in the tree."""
    with pytest.raises(ValueError, match="subpath"):
        content_key(stage="s", version="1", request={}, inputs=[tmp_path / "outside"], root=tree)


@pytest.mark.usefixtures("valkey")
def test_what_was_put_comes_back(valkey_url: str) -> None:
    """A result is found under its key only, and can be replaced."""
    cache = cache_at(valkey_url)
    assert cache.get(KEY) is None
    cache.put(KEY, {"status": "completed", "names": ["ü"]})
    assert cache.get(KEY) == {"status": "completed", "names": ["ü"]}
    assert cache.get("1" * 64) is None
    assert cache_at(valkey_url, "u:").get(KEY) is None
    cache.put(KEY, {})
    assert cache.get(KEY) == {}


def test_hit_renews_expiry(valkey: redis.Redis, valkey_url: str) -> None:
    """A result lives for its time from the last hit."""
    cache = cache_at(valkey_url)
    cache.put(KEY, {})
    assert 3690 < valkey.ttl(f"t:result:{KEY}") <= 3700
    valkey.expire(f"t:result:{KEY}", 5)
    cache.get(KEY)
    assert valkey.ttl(f"t:result:{KEY}") > 3690


@pytest.mark.parametrize("stored", ["not json", "[1]", b"\xff"])
def test_unreadable_result_is_none(valkey: redis.Redis, valkey_url: str, stored: str | bytes) -> None:
    """What is no result counts as absent, so that the work is done again."""
    valkey.set(f"t:result:{KEY}", stored)
    assert cache_at(valkey_url).get(KEY) is None


def test_redis_that_is_down_is_unavailable() -> None:
    """An unreachable server is StoreUnavailable, for reading and writing."""
    cache = cache_at("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        cache.get(KEY)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        cache.put(KEY, {})


def test_least_recently_used_results_make_room(valkey: redis.Redis, valkey_url: str) -> None:
    """Above their number the results that nobody asked for longest are forgotten; the index is bounded, too."""
    chosen = Settings(broker_url=SecretStr(valkey_url), key_prefix="t:", max_cached_results=3)
    cache = ResultCache(chosen)
    for number in range(3):
        cache.put(str(number), {"number": number})
    assert cache.get("0") == {"number": 0}
    for number in range(3, 5):
        cache.put(str(number), {"number": number})
    assert [cache.get(str(number)) is not None for number in range(5)] == [True, False, False, True, True]
    assert valkey.zcard("t:results") == 3
    assert valkey.ttl("t:results") > 0
