"""Settings: read once, from the environment, and consistent."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

import pytest

from tta_tasks import stack
from tta_tasks.celery import configuration
from tta_tasks.connection import as_redis_py, without_password
from tta_tasks.errors import SettingsError
from tta_tasks.settings import Settings, settings
from tta_tasks.stack import Stack


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TTA_RETENTION_S", "soon", "TTA_RETENTION_S"),
        ("TTA_MAX_RUNS", "0", "TTA_MAX_RUNS"),
        ("TTA_BROKER_URL", "localhost:6379", "TTA_BROKER_URL: .* must begin with one of redis://"),
        ("TTA_BROKER_URL", "unix:///run/redis.sock", "must begin with one of .*redis\\+socket://"),
        ("TTA_BROKER_URL", "redis+socket://run/redis.sock", "URL of a Unix socket is redis\\+socket://:PASSWORD@/PATH"),
        ("TTA_BROKER_URL", "redis+socket:///run/redis.sock?password=x", "URL of a Unix socket is"),
        ("TTA_RESULT_URL", "redis+socket://:a[b@/run/redis.sock", "TTA_RESULT_URL: .*URL of a Unix socket is"),
        ("TTA_BROKER_URL", "amqp://guest@127.0.0.1", "TTA_RESULT_URL must name a Redis"),
        ("TTA_RETENTION_S", "100", "longer than TTA_TASK_TIMEOUT_S"),
    ],
)
def test_wrong_settings_name_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """A variable that does not hold is named, and its value is not shown."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said):
        settings()


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the settings shows no password."""
    monkeypatch.setenv("TTA_BROKER_URL", "redis://:geheim@127.0.0.1/0")
    assert "geheim" not in repr(settings())
    assert settings().redis == "redis://:geheim@127.0.0.1/0"


def test_local_stack_completes_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a broker URL, the stack that runs in the state folder is taken; a dead one's file is not."""
    monkeypatch.setenv("TTA_STATE_DIR", str(tmp_path))
    running = Stack(pid=os.getpid(), broker_url="redis://127.0.0.1:7/0", slots=1, kept=False, started_at=time.time())
    with stack.supervised(tmp_path):
        stack.write(tmp_path, running)
        assert (tmp_path / stack.FILE).stat().st_mode & 0o077 == 0
        assert settings().broker == "redis://127.0.0.1:7/0"
    settings.cache_clear()
    assert settings().broker == ""


@pytest.mark.parametrize("visibility_timeout_s", [3.0, 60.0, 3600.0])
def test_lease_is_renewed_in_time_and_ends_before_the_message_comes_again(visibility_timeout_s: float) -> None:
    """Two renewals in a row can fail; when the broker delivers a lost worker's message, the lease is over."""
    found = Settings(visibility_timeout_s=visibility_timeout_s)
    assert 3 * found.lease_renewal_s < found.lease_s < found.visibility_timeout_s
    celery = configuration(found)
    assert celery["broker_transport_options"]["visibility_timeout"] == visibility_timeout_s


def test_what_must_hold_between_settings() -> None:
    """Chords outlive tasks, and only JSON is read."""
    celery = configuration(Settings())
    assert celery["result_chord_expires"] >= celery["result_expires"] >= celery["task_time_limit"]
    assert celery["task_time_limit"] > celery["task_soft_time_limit"]
    assert celery["accept_content"] == ["json"]
    assert celery["task_acks_late"]
    assert celery["task_reject_on_worker_lost"]
    assert celery["broker_transport_options"]["socket_timeout"] > 1


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each setting that may hold a secret is read from the file that ``..._FILE`` names, and never shown."""
    secrets = {
        "TTA_BROKER_URL": "amqps://:geheim-1@127.0.0.1",
        "TTA_RESULT_URL": "rediss://:geheim-2@127.0.0.1/0",
        "TTA_ARTIFACT_URL": "s3://geheim-3@bucket",
        "TTA_LLM_API_KEY": "geheim-4",
        "TTA_SIGNING_KEY": f"geheim-5-{'x' * 40}",
        "TTA_WEBHOOK_URL": "https://hooks.example.org/geheim-6",
        "TTA_WEBHOOK_SECRET": "whsec_geheim7A",
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value + "\n", encoding="utf-8")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    read = settings()
    shown = {f"TTA_{name.upper()}": getattr(read, name) for name in Settings.model_fields}
    assert {name: shown[name].get_secret_value() for name in secrets} == secrets
    assert "geheim" not in repr(read) + str(read) + read.model_dump_json()


def test_a_secret_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing file, one that is no text, and a variable beside its file are named; no value is shown."""
    monkeypatch.setenv("TTA_BROKER_URL_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"TTA_BROKER_URL_FILE: .*nowhere cannot be read: No such file"):
        settings()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("TTA_BROKER_URL_FILE", str(tmp_path / "binary"))
    with pytest.raises(SettingsError, match="holds no UTF-8 text"):
        settings()
    monkeypatch.setenv("TTA_BROKER_URL", "redis://:geheim@127.0.0.1/0")
    with pytest.raises(SettingsError, match="Both TTA_BROKER_URL and TTA_BROKER_URL_FILE are set") as told:
        settings()
    assert "geheim" not in str(told.value)


def test_a_wrong_url_in_a_file_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a file holds is checked like a variable, and told without its value."""
    (tmp_path / "url").write_text("http://:geheim@127.0.0.1", encoding="utf-8")
    monkeypatch.setenv("TTA_BROKER_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError, match=r"TTA_BROKER_URL: .* must begin with one of") as told:
        settings()
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TTA_WEBHOOK_URL", "ftp://geheim.example.org", "must begin with https:// or http://"),
        ("TTA_WEBHOOK_URL", "https:///geheim", "must begin with https:// or http://, name a host"),
        ("TTA_WEBHOOK_URL", "https://example.org/?token=geheim part", "and be percent-encoded"),
        ("TTA_WEBHOOK_URL", "https://example.org:geheim/", "and be percent-encoded"),
        ("TTA_WEBHOOK_URL", "https://user:geheim@example.org/", "user and password cannot be sent"),
        ("TTA_WEBHOOK_SECRET", "whsec_", "behind whsec_ there must be base64"),
        ("TTA_WEBHOOK_SECRET", "whsec_geheim!", "behind whsec_ there must be base64"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    """What is wrong is told when settings are read, without the value, and not by each end that is not posted."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=why) as told:
        settings()
    assert "geheim" not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize(
    ("url", "for_redis", "shown"),
    [
        ("redis://:geheim@127.0.0.1:7/3", "redis://:geheim@127.0.0.1:7/3", "redis://127.0.0.1:7/3"),
        ("redis+socket:///run/a.sock", "unix:///run/a.sock", "redis+socket:///run/a.sock"),
        ("redis+socket://:geheim@/run/a.sock", "unix://:geheim@/run/a.sock", "redis+socket:///run/a.sock"),
        (
            "redis+socket://u:geheim@/a%20b.sock?virtual_host=3",
            "unix://u:geheim@/a%20b.sock?db=3",
            "redis+socket:///a%20b.sock?virtual_host=3",
        ),
    ],
)
def test_sockets_are_named_as_each_library_names_them(url: str, for_redis: str, shown: str) -> None:
    """One URL serves Celery, redis-py and a person."""
    chosen = Settings.model_validate({"broker_url": url})
    assert (chosen.transport, chosen.redis) == ("redis", url)
    assert as_redis_py(url) == for_redis
    assert without_password(url) == shown
