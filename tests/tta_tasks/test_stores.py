"""One contract for every artifact store, and what is particular to each."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
import redis

from tta_tasks import folders
from tta_tasks.errors import (
    ArtifactMissing,
    ArtifactTooLarge,
    ArtifactUntrusted,
    SettingsError,
    StoreUnavailable,
    TransientError,
)
from tta_tasks.protocols import ArtifactStore
from tta_tasks.settings import Settings, settings
from tta_tasks.stores import open_store
from tta_tasks.stores.content import digest_of
from tta_tasks.stores.fsspec import FsspecStore
from tta_tasks.stores.redis import RedisStore
from tta_tasks.stores.signing import Signer
from tta_tasks.testing import MemoryStore

LIMIT = 100_000
DATA = bytes(range(256)) * 4
DIGEST = digest_of(DATA)


@dataclass(frozen=True)
class Case:
    """A store under test, and a way to spoil what it keeps behind its back."""

    store: ArtifactStore
    spoil: Callable[[str], object]


def _path(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}"


@pytest.fixture(params=["memory", "redis", "folder", "fsspec-memory"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "memory":
        memory = MemoryStore(max_bytes=LIMIT)
        yield Case(memory, lambda digest: memory.artifacts.__setitem__(digest, b"spoilt"))
    elif request.param == "redis":
        client: redis.Redis = request.getfixturevalue("valkey")
        url = request.getfixturevalue("valkey_url")
        with closing(RedisStore(url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
            yield Case(store, lambda digest: client.set(f"t:artifact:{digest}", b"spoilt"))
    elif request.param == "folder":
        root = tmp_path / "artifacts"
        yield Case(
            FsspecStore(root.as_uri(), retention_s=600, max_bytes=LIMIT),
            lambda digest: (root / _path(digest)).write_bytes(b"spoilt"),
        )
    else:
        name = f"/{uuid.uuid4().hex}"
        files = fsspec.filesystem("memory")
        yield Case(
            FsspecStore(f"memory:/{name}", retention_s=600, max_bytes=LIMIT),
            lambda digest: files.pipe_file(f"{name}/{_path(digest)}", b"spoilt"),
        )
        files.rm(name, recursive=True) if files.exists(name) else None


def test_what_was_put_comes_back(case: Case) -> None:
    """Bytes are stored under their sha256 and come back unchanged; the empty artifact is one, too."""
    assert case.store.put(DATA) == DIGEST
    assert case.store.get(DIGEST) == DATA
    assert case.store.get(case.store.put(b"")) == b""


def test_has_tells_presence(case: Case) -> None:
    """`has` is false before and true after `put`; putting again changes nothing."""
    assert not case.store.has(DIGEST)
    assert case.store.put(DATA) == case.store.put(DATA) == DIGEST
    assert case.store.has(DIGEST)


def test_absent_artifact_is_missing(case: Case) -> None:
    """An artifact that was never stored is ArtifactMissing, with its digest and a hint."""
    with pytest.raises(ArtifactMissing, match=DIGEST) as caught:
        case.store.get(DIGEST)
    assert caught.value.hint


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, f"{DIGEST}\n", f"{DIGEST}/../x"])
def test_only_digests_are_names(case: Case, digest: str) -> None:
    """What is no sha256 never reaches the store, as path or key."""
    with pytest.raises(ArtifactMissing, match="not the digest"):
        case.store.get(digest)
    with pytest.raises(ArtifactMissing, match="not the digest"):
        case.store.has(digest)


def test_limit_holds(case: Case) -> None:
    """The largest allowed artifact is stored; one byte more is ArtifactTooLarge, and not there afterwards."""
    assert case.store.has(case.store.put(bytes(LIMIT)))
    with pytest.raises(ArtifactTooLarge, match=r"100,001 bytes.*100,000"):
        case.store.put(bytes(LIMIT + 1))
    assert not case.store.has(digest_of(bytes(LIMIT + 1)))


def test_damage_is_found_and_can_be_mended(case: Case) -> None:
    """Damaged bytes never come out: the artifact counts as missing, and can be stored again."""
    case.store.put(DATA)
    case.spoil(DIGEST)
    with pytest.raises(ArtifactMissing, match="damaged"):
        case.store.get(DIGEST)
    assert not case.store.has(DIGEST)
    case.store.put(DATA)
    assert case.store.get(DIGEST) == DATA


# -- Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["put", "get", "has"])
def test_redis_renews_expiry_at_each_use(valkey: redis.Redis, valkey_url: str, use: str) -> None:
    """An artifact's time to live starts anew with put, get and has."""
    with closing(RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
        key = f"t:artifact:{store.put(DATA)}"
        valkey.expire(key, 5)
        getattr(store, use)(DATA if use == "put" else DIGEST)
        assert valkey.ttl(key) > 590


def test_redis_that_is_full_says_so(valkey: redis.Redis, valkey_url: str) -> None:
    """A server out of memory is StoreUnavailable and tells what to raise."""
    with closing(RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
        valkey.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailable, match=r"is full.*maxmemory"):
                store.put(DATA)
        finally:
            valkey.config_set("maxmemory", 0)


def test_redis_that_dropped_us_costs_nothing(valkey: redis.Redis, valkey_url: str) -> None:
    """A connection the server closed meanwhile is opened again without anybody noticing."""
    with closing(RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
        store.put(DATA)
        valkey.client_kill_filter(_type="normal", skipme=True)
        assert store.get(DIGEST) == DATA


def test_redis_that_is_down_never_shows_the_password() -> None:
    """An unreachable server is a TransientError whose text holds the host, but no credential."""
    url = "redis://user:s3cret@127.0.0.1:1/0?password=s3cret"
    with closing(RedisStore(url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:1") as caught:
            store.has(DIGEST)
        assert "s3cret" not in str(caught.value)


def test_redis_that_refuses_us_never_shows_the_password(valkey_url: str) -> None:
    """Wrong credentials are told apart from a server that is down."""
    url = valkey_url.replace("redis://", "redis://nobody:s3cret@")
    with closing(RedisStore(url, prefix="t:", retention_s=600, max_bytes=LIMIT)) as store:
        with pytest.raises(StoreUnavailable, match="refused the password") as caught:
            store.put(DATA)
        assert "s3cret" not in str(caught.value)


@pytest.fixture
def small(valkey: redis.Redis, valkey_url: str) -> Iterator[RedisStore]:
    """A store that keeps 300 bytes, and nothing for being fresh."""
    assert valkey.dbsize() == 0
    with closing(
        RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT, max_total_bytes=300, fresh_s=0)
    ) as store:
        yield store


def test_least_recently_used_artifacts_make_room(small: RedisStore, valkey: redis.Redis) -> None:
    """Above the bound the oldest go, as few as suffice; using one, or needing it, keeps it."""
    digests = [small.put(bytes([number]) * 100) for number in range(6)]
    assert small.has(digests[0])
    assert small.evict(lambda: {digests[2]}) == 3
    assert [valkey.exists(f"t:artifact:{digest}") for digest in digests] == [1, 0, 1, 0, 0, 1]
    assert valkey.zcard("t:artifacts") == 3
    assert small.evict(lambda: pytest.fail("nothing must go")) == 0


def test_what_was_just_stored_stays(valkey: redis.Redis, valkey_url: str) -> None:
    """Whoever stored it may be about to say what it is for."""
    with closing(
        RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT, max_total_bytes=10, fresh_s=60)
    ) as store:
        digest = store.put(DATA)
        assert store.evict(set) == 0
        valkey.zadd("t:artifacts", {digest: time.time() - 61})
        assert store.evict(set) == 1
        assert not store.has(digest)


def test_index_forgets_what_has_expired(small: RedisStore, valkey: redis.Redis) -> None:
    """An artifact that Redis has expired counts for nothing; the index expires with the last of them."""
    digest = small.put(DATA[:10])
    assert 0 < valkey.ttl("t:artifacts") <= 600
    valkey.delete(f"t:artifact:{digest}")
    valkey.zadd("t:artifacts", {digest: time.time() - 601})
    assert small.evict(set) == 0
    assert valkey.zcard("t:artifacts") == 0


# -- fsspec -----------------------------------------------------------------------------------------------------------


def test_folder_is_private_and_holds_no_uploads(tmp_path: Path) -> None:
    """A new folder is readable by its owner only, and holds nothing but finished artifacts."""
    root = tmp_path / "new" / "artifacts"
    FsspecStore(str(root), retention_s=600, max_bytes=LIMIT).put(DATA)
    assert root.stat().st_mode & 0o777 == 0o700
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == {_path(DIGEST), ".gitignore", folders.MARK}


def test_prune_removes_only_what_is_unused(tmp_path: Path) -> None:
    """Pruning removes artifacts past the retention and abandoned uploads; using an artifact keeps it."""
    store = FsspecStore(str(tmp_path), retention_s=7200, max_bytes=LIMIT)
    used, unused = store.put(b"used"), store.put(b"unused")
    upload = tmp_path / "ab" / "cdef.tmp"
    upload.parent.mkdir()
    upload.write_bytes(b"half")
    for path in (tmp_path / _path(used), tmp_path / _path(unused), upload):
        os.utime(path, (0, 0))
    assert store.has(used)
    assert store.prune() == 2
    assert store.has(used)
    assert not store.has(unused)
    assert store.prune() == 0


def test_unusable_folder_is_unavailable(tmp_path: Path) -> None:
    """A store below a regular file is StoreUnavailable with the reason, not a traceback of the file system."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        FsspecStore(str(tmp_path / "file" / "artifacts"), retention_s=600, max_bytes=LIMIT).put(DATA)


def test_unknown_scheme_never_shows_credentials() -> None:
    """A scheme nobody serves is a SettingsError without what is secret in the URL."""
    with pytest.raises(SettingsError, match="nosuch://bucket/prefix") as caught:
        FsspecStore("nosuch://key:s3cret@bucket/prefix?token=s3cret", retention_s=600, max_bytes=LIMIT)
    assert "s3cret" not in str(caught.value)


# -- signing ----------------------------------------------------------------------------------------------------------

KEY, OTHER = "k" * 40, "o" * 40


@pytest.fixture(params=["redis", "folder"])
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ArtifactStore]:
    """Open the same store as somebody with these keys."""
    if request.param == "folder":
        return lambda *keys: FsspecStore(
            (tmp_path / "a").as_uri(), retention_s=600, max_bytes=LIMIT, signer=Signer(keys)
        )
    url = request.getfixturevalue("valkey_url")
    request.getfixturevalue("valkey")
    return lambda *keys: RedisStore(url, prefix="t:", retention_s=600, max_bytes=LIMIT, signer=Signer(keys))


def test_only_what_a_key_holder_stored_is_used(keyed: Callable[..., ArtifactStore]) -> None:
    """Unsigned, or signed with another key: refused, and kept; stored again by a holder of the key: used."""
    assert keyed(KEY).get(keyed(KEY).put(DATA)) == DATA
    for stranger in (keyed(), keyed(OTHER)):
        digest = stranger.put(b"from a stranger")
        with pytest.raises(ArtifactUntrusted, match=digest):
            keyed(KEY).get(digest)
    assert keyed(OTHER).get(digest) == b"from a stranger"
    assert keyed(KEY).put(b"from a stranger") == digest
    assert keyed(KEY).get(digest) == b"from a stranger"


def test_signature_of_one_artifact_does_not_fit_another(valkey: redis.Redis, valkey_url: str) -> None:
    """A true signature before other bytes, or under another name, is worth nothing."""
    store = RedisStore(valkey_url, prefix="t:", retention_s=600, max_bytes=LIMIT, signer=Signer([KEY]))
    signed: Any = valkey.get(f"t:artifact:{store.put(DATA)}")
    forged = digest_of(b"forged")
    valkey.set(f"t:artifact:{forged}", signed[: -len(DATA)] + b"forged")
    with pytest.raises(ArtifactUntrusted):
        store.get(forged)


def test_keys_are_rotated(keyed: Callable[..., ArtifactStore]) -> None:
    """With both keys old artifacts are trusted and new ones signed with the first; without a key all can be read."""
    old = keyed(OTHER).put(b"old")
    assert keyed(KEY, OTHER).get(old) == b"old"
    assert keyed(KEY).get(keyed(KEY, OTHER).put(b"new")) == b"new"
    assert keyed().get(old) == b"old"


def test_short_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that could be guessed is told, and not shown."""
    monkeypatch.setenv("TTA_SIGNING_KEY", f"{KEY} geheim")
    with pytest.raises(SettingsError, match=r"TTA_SIGNING_KEY: .* 32 characters or more") as told:
        settings()
    assert "geheim" not in str(told.value)


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_settings_choose_the_store(tmp_path: Path) -> None:
    """An artifact URL wins over Redis, Redis is the default, and neither is a SettingsError with a way out."""
    url = "redis://127.0.0.1:1/0"
    chosen = open_store(Settings.model_validate({"broker_url": url, "artifact_url": str(tmp_path)}))
    assert isinstance(chosen, FsspecStore)
    assert isinstance(open_store(Settings.model_validate({"broker_url": url})), RedisStore)
    with pytest.raises(SettingsError, match="TTA_ARTIFACT_URL"):
        open_store(Settings())


def test_redis_url_that_is_none_is_a_settings_error() -> None:
    """A URL of another kind is refused when the store is opened, without its password."""
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        RedisStore("http://user:s3cret@host", prefix="t:", retention_s=600, max_bytes=LIMIT)
    assert "s3cret" not in str(caught.value)
