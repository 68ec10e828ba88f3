"""Facts about what a fleet shares of a model, in a real Valkey; and about models, conversations and the shell."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import redis

from tta_tasks.errors import ModelUnavailable, SettingsError
from tta_tasks.fleet import Fleet
from tta_tasks.ledger import Ledger
from tta_tasks.models import Usage
from tta_tasks.protocols import Limits
from tta_tasks.settings import Settings, settings
from workers.openhands import limits
from workers.openhands.conversations import conversation, prune
from workers.openhands.limits import FleetLimits, Wait
from workers.openhands.models import LanguageModel, order, registry
from workers.openhands.outcome import ModelFault
from workers.openhands.shell import Shell
from workers.sandbox import detect_sandbox


@pytest.fixture
def fleet(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> FleetLimits:
    """Limits in an empty Valkey."""
    assert not valkey.dbsize()
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    settings.cache_clear()
    return FleetLimits(settings())


def wait(seconds: float = 30.0, said: list[str] | None = None) -> Wait:
    return Wait(lambda: False, (said if said is not None else []).append, time.monotonic() + seconds)


def test_places_are_bounded(fleet: FleetLimits) -> None:
    """Eight at once on three places: never more than three have one, and all get one."""
    now, most, done = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal now, most, done
        with fleet.place("model", 3, wait()):
            with lock:
                now, most = now + 1, max(most, now + 1)
            time.sleep(0.05)
            with lock:
                now, done = now - 1, done + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (3, 8)


def test_a_place_of_the_dead_becomes_free(
    fleet: FleetLimits, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not renew its place loses it; who waits too long is told."""
    taken, in_vain = fleet.place("model", 1, wait()), fleet.place("model", 1, wait(0))
    with taken, pytest.raises(ModelUnavailable, match="All 1 places"), in_vain:
        raise AssertionError
    monkeypatch.setattr(limits, "LEASE_S", 0.2)
    valkey.zadd("tta:model:places:model", {"dead": time.time() + 0.2})
    said: list[str] = []
    with fleet.place("model", 1, wait(said=said)):
        assert said == ["waiting for a place at model"] * len(said) != []


def test_requests_a_minute(fleet: FleetLimits) -> None:
    """The window moves; without a bound nothing is counted."""
    assert [fleet.turn("model", 2, wait(0)) for _ in range(3)] == [True, True, False]
    assert all(fleet.turn("free", 0, wait(0)) for _ in range(50))


def test_a_purse_adds_up(fleet: FleetLimits) -> None:
    """What a run spends is the sum over all workers, and of that run alone."""
    assert [fleet.spend("run", usd) for usd in (0.5, 0.25)] == [0.5, 0.75]
    assert fleet.spend("other", 0.1) == 0.1


def failing() -> None:
    raise ModelFault("It does not answer.")


def test_failures_open_the_breaker_and_one_trial_closes_it(fleet: FleetLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three faults open it for all; after the rest one worker tries and the others wait; success closes it."""
    for _ in range(limits.FAILURES):
        assert not fleet.is_resting("model")
        with pytest.raises(ModelFault):
            fleet.guarded("model", failing)
    another = FleetLimits(settings())
    assert another.is_resting("model")
    assert Fleet(Ledger.connect(settings()), settings()).look().breakers == {"model model": "open"}
    with pytest.raises(ModelUnavailable, match="rests"):
        another.guarded("model", lambda: None)
    monkeypatch.setattr(limits, "REST", limits.REST * 0)

    def trial() -> str:
        with pytest.raises(ModelUnavailable, match="another worker tries it"):
            another.guarded("model", lambda: None)
        return "answer"

    assert fleet.guarded("model", trial) == "answer"
    assert another.guarded("model", lambda: "closed") == "closed"
    assert Fleet(Ledger.connect(settings()), settings()).look().breakers == {"model model": "closed"}


def test_other_faults_do_not_count(fleet: FleetLimits) -> None:
    """What is not the model's fault does not open its breaker."""
    for _ in range(limits.FAILURES + 1):
        with pytest.raises(ZeroDivisionError):
            fleet.guarded("model", lambda: 1 // 0)
    assert not fleet.is_resting("model")
    fleet.open("model")
    assert fleet.is_resting("model")


def test_the_cheapest_that_is_good_enough_comes_first() -> None:
    """Then the others, best first; a model for another kind of work is not asked."""
    dear = LanguageModel(name="dear", litellm="a/dear", quality=5, input_usd=5, output_usd=20)
    fair = LanguageModel(name="fair", litellm="a/fair", quality=4, input_usd=2, output_usd=10)
    cheap = LanguageModel(name="cheap", litellm="a/cheap", quality=2, input_usd=0.1, output_usd=1)
    tests_only = LanguageModel(name="tests", litellm="a/tests", quality=3, kinds=("generation",))
    models = (dear, cheap, tests_only, fair)
    assert [model.name for model in order(models, "generation", 2)] == ["tests", "cheap", "fair", "dear"]
    assert [model.name for model in order(models, "refactoring", 4)] == ["fair", "dear", "cheap"]


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's own key comes before the common one; no way of printing shows it."""
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.setenv("THE_KEY", "from-environment")
    monkeypatch.setenv("TTA_LLM_API_KEY_FILE", str(tmp_path / "key"))
    common = Settings(llm_model="openai/gpt-x")
    (model,) = registry(common)
    assert (model.name, model.key(common).get_secret_value()) == ("gpt-x", "from-file")
    own = model.model_copy(update={"key_env": "THE_KEY"})
    assert own.key(common).get_secret_value() == "from-environment"
    assert "from-" not in repr(own.key(common)) + repr(own)
    with pytest.raises(SettingsError, match="cannot be read"):
        model.model_copy(update={"key_file": tmp_path / "none"}).key(common)


@pytest.mark.parametrize(
    ("text", "said"),
    [("model = 3", "do not hold"), ("[[model", "no TOML"), ("", "has no"), ("[[model]]\nname='a b'\n", "0.name")],
)
def test_a_registry_that_does_not_hold_is_said_so(tmp_path: Path, text: str, said: str) -> None:
    """The file and the entry are named."""
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        registry(Settings(models_file=file))
    with pytest.raises(SettingsError, match="cannot be read"):
        registry(Settings(models_file=tmp_path / "none"))


def test_conversations_are_kept_within_bounds(tmp_path: Path) -> None:
    """What is old goes, then what is least recently used above the bound; what is in use stays."""
    kept = Settings(cache_dir=tmp_path)
    parent = tmp_path / "conversations"
    with conversation(kept, "in use") as used:
        used.save_usage(Usage(calls=3))
        (used.home / "large").write_bytes(b"x" * 10_000)
        for age, name in ((9000, "old"), (50, "older"), (5, "newer")):
            (parent / name).mkdir()
            (parent / name / "large").write_bytes(b"x" * 10_000)
            os.utime(parent / name, (time.time() - age,) * 2)
        os.utime(used.home, (time.time() - 9999,) * 2)
        assert prune(parent, 3600, 32_000) == 2  # of blocks of 4 KiB
    assert sorted(path.name for path in parent.iterdir() if path.is_dir()) == sorted([used.home.name, "newer"])
    with conversation(kept, "in use") as again:
        assert (again.home, again.id, again.usage().calls) == (used.home, used.id, 3)


def test_the_shell_remembers_and_is_jailed(tmp_path: Path, component_python: Path) -> None:
    """Folder and exported variables last; nothing else can be written to; a command's end is its own."""
    tree, notes = tmp_path / "tree", tmp_path / "notes"
    for folder in (tree / "tests", notes):
        folder.mkdir(parents=True)
    limits_ = Limits(wall_s=30, memory_bytes=2 << 30)
    readable = [component_python.parents[1]]
    shell = Shell(detect_sandbox(), tree, tree, [tree / "tests"], notes, component_python, {}, limits_, readable)
    assert shell.answer("cd tests && export A=1 && touch made", None)["exit_code"] == 0
    assert shell.answer('echo "$(basename $PWD) $A"; exit 3', None) == {
        "output": "tests 1\n",
        "exit_code": 3,
        "timed_out": False,
    }
    assert "Read-only" in str(shell.answer(f"touch {tree}/other", None)["output"])
    shell.reset()
    assert (
        shell.answer("basename $PWD; echo A=$A; python -c 'import pytest; print(1)'", None)["output"] == "tree\nA=\n1\n"
    )
    assert shell.answer("sleep 60", 0.5)["timed_out"] is True
