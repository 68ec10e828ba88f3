"""Stored records outlive the version that wrote them: fields that are added are ignored, newer records told as such."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from pydantic import ValidationError

from orchestrator.cli import main
from tta_tasks.cache import ResultCache
from tta_tasks.canary import ping
from tta_tasks.environments import Environments
from tta_tasks.errors import RecordUnreadable
from tta_tasks.kinds import KINDS
from tta_tasks.ledger import Ledger
from tta_tasks.ledger.records import RESULT
from tta_tasks.models import (
    RECORD_VERSION,
    EnvironmentRecord,
    Model,
    Priority,
    Record,
    RunPlan,
    RunRecord,
    Stage,
    Status,
    TaskRecord,
)
from tta_tasks.queues import NAMES
from tta_tasks.settings import Settings, settings
from workers.stages import dispatch

#: What a run of 0.1.0 left in Redis: the calculator, to production. Key -> type and content. Never to be made anew: a
#: later version reads this file as it is.
ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "data" / "records" / "0.1.0.json"
RUN = "run:"
#: Fields that take any keys.
FREE = {"plugins"}


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def frozen() -> dict[str, list[str]]:
    """The names of 0.1.0, by what they name."""
    found: dict[str, list[str]] = json.loads(STORED.with_name("0.1.0-names.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def chosen(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    settings.cache_clear()
    return settings()


def fill(valkey: redis.Redis, stored: dict[str, Any], change: Callable[[Any], Any] = lambda value: value) -> str:
    """Put records into Redis, each piece of JSON changed first; returns the run's id."""

    def text(value: str) -> str:
        return json.dumps(change(json.loads(value))) if value.startswith("{") else value

    for key, (kind, content) in stored.items():
        match kind:
            case "hash":
                valkey.hset(key, mapping={name: text(value) for name, value in content.items()})
            case "string":
                valkey.set(key, text(content))
            case "zset":
                valkey.zadd(key, content)
            case "stream":
                for fields in content:
                    valkey.xadd(key, fields)
    return next(key for key in stored if key.startswith(f"tta:{RUN}")).removeprefix(f"tta:{RUN}")


def with_more_fields(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """``value`` with an unknown field in each of its objects."""
    if isinstance(value, dict):
        changed = {name: each if name in FREE else with_more_fields(each) for name, each in value.items()}
        return changed | {"added_later": {"of": [1]}}
    if isinstance(value, list):
        return [with_more_fields(each) for each in value]
    return value


def newer(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` as a later version wrote it, whose records this one must not guess at."""
    return value | {"version": RECORD_VERSION + 1} if "version" in value else value


def read(chosen: Settings, run_id: str) -> tuple[RunRecord, list[str], tuple[EnvironmentRecord, ...]]:
    ledger = Ledger.connect(chosen)
    events = [event.what for _, event in ledger.events(run_id)]
    return ledger.run(run_id), events, Environments(chosen).known()


def test_records_of_0_1_0_are_read(
    valkey: redis.Redis, chosen: Settings, stored: dict[str, Any], frozen: dict[str, list[str]]
) -> None:
    """A run that 0.1.0 has brought to production is known: its plan, tasks, results, events and environments."""
    record, events, environments = read(chosen, fill(valkey, stored))
    assert record.status is Status.COMPLETED
    assert {task.stage for task in record.tasks} == set(frozen["stages"])
    assert all(task.result is not None and task.result.ok for task in record.tasks)
    assert events.count("completed") == len(record.tasks)
    assert {each.environment for each in environments} == {"staging", "production"}
    testing = next(task for task in record.tasks if task.stage is Stage.TESTING)
    suite = Ledger.connect(chosen).baselines.get(testing.id, "src/calculator/parser.py")
    assert suite is not None
    assert suite.coverage[0].path == "src/calculator/parser.py"
    cached = [key for key in stored if key.startswith("tta:result:")]
    assert cached
    for key in cached:
        known = ResultCache(chosen).get(key.removeprefix("tta:result:"))
        assert RESULT.validate_python(known, extra="ignore").ok


def test_fields_that_are_added_are_ignored(valkey: redis.Redis, chosen: Settings, stored: dict[str, Any]) -> None:
    """What another version has added, at any depth, changes nothing of what is read."""
    expected = read(chosen, fill(valkey, stored))
    valkey.flushall()
    fill(valkey, stored, with_more_fields)
    for key in stored:
        if key.startswith("tta:task:"):
            valkey.hset(key, "added_later", "1")
    assert read(chosen, expected[0].plan.id) == expected


def test_code_must_not_invent_fields() -> None:
    """A mistyped field is an error where a record is made."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RunPlan.model_validate({"titel": "mistyped"})


def test_every_stored_record_carries_the_version() -> None:
    """What travels between hosts says which version's it is."""
    for model in (TaskRecord, RunPlan, EnvironmentRecord):
        assert issubclass(model, Record)
        assert issubclass(model, Model)
        assert model.model_fields["version"].default == RECORD_VERSION


def test_newer_records_are_told_as_such(valkey: redis.Redis, chosen: Settings, stored: dict[str, Any]) -> None:
    """What must not be guessed at is one error that names the record, the versions and the way out."""
    run_id = fill(valkey, stored, newer)
    ledger = Ledger.connect(chosen)
    said = f"it has version {RECORD_VERSION + 1}, and the newest that is read here is {RECORD_VERSION}"
    with pytest.raises(RecordUnreadable, match=f"run {run_id} cannot be read here: {said}") as told:
        ledger.run(run_id)
    assert told.value.hint == "A newer version of tta-tasks wrote it; upgrade this host."
    task = next(key for key in stored if key.startswith("tta:task:")).removeprefix("tta:task:")
    with pytest.raises(RecordUnreadable, match=f"task {task} cannot be read here: {said}"):
        ledger.results([task])
    assert Environments(chosen).known() == ()


@pytest.mark.usefixtures("chosen")
def test_one_unreadable_run_does_not_hide_the_others(valkey: redis.Redis, stored: dict[str, Any]) -> None:
    """``tta list`` shows it as such beside the others, in text and in JSON."""
    run_id = fill(valkey, stored)
    plan = json.loads(stored[f"tta:{RUN}{run_id}"][1]["plan"])
    valkey.hset("tta:run:newer", mapping={"plan": json.dumps(newer(plan))})
    valkey.zadd("tta:runs", {"newer": plan["created_at"] + 1})
    listed = CliRunner().invoke(main, ["list"], catch_exceptions=False)
    assert listed.exit_code == 0
    shown = [line.split() for line in listed.stdout.splitlines()]
    assert ["newer", "unreadable"] in shown
    assert any(line[0] == run_id and "completed" in line for line in shown[1:])
    assert "The record of run newer cannot be read here" in listed.stderr
    lines = CliRunner().invoke(main, ["list", "--json"], catch_exceptions=False).stdout.splitlines()
    assert [json.loads(line).get("run_id") for line in lines] == ["newer", None]


def test_a_run_that_cannot_be_read_here_can_be_cancelled(
    valkey: redis.Redis, chosen: Settings, stored: dict[str, Any]
) -> None:
    """It is asked to stop, and who asks is told why no more can be said of it; one that has ended stays as it is."""
    run_id = fill(valkey, stored, newer)
    assert CliRunner().invoke(main, ["cancel", run_id], catch_exceptions=False).exit_code == 1
    assert not Ledger.connect(chosen).cancelled(run_id)
    valkey.hset(f"tta:run:{run_id}", "left", 2)
    asked = CliRunner().invoke(main, ["cancel", run_id], catch_exceptions=False)
    assert asked.stdout == f"{run_id}: asked to stop; it ends where its records can be read.\n"
    assert "it has version 2" in asked.stderr
    assert Ledger.connect(chosen).cancelled(run_id)


def test_names_of_0_1_0_are_kept(frozen: dict[str, list[str]]) -> None:
    """Settings, queues, tasks, keys and entry points keep their names: others have them in scripts and in messages."""
    keys = (ROOT / "docs" / "reference" / "queues.md").read_text(encoding="utf-8").partition("## Keys in Redis")[2]
    now: dict[str, set[str]] = {
        "settings": {f"TTA_{name.upper()}" for name in Settings.model_fields},
        "queues": set(NAMES),
        "tasks": {*(kind.task for kind in KINDS), ping.name},
        "kinds": {kind.name for kind in KINDS},
        "priorities": {*Priority},
        "statuses": {*Status},
        "stages": {*Stage},
        "keys": set(re.findall(r"`([^`]+)`", keys)),
        "entry points": set(entry_points().groups),
    }
    assert now.keys() == frozen.keys()
    for kind, names in frozen.items():
        assert set(names) <= now[kind], kind


def test_a_cached_result_that_cannot_be_read_is_made_again(
    valkey: redis.Redis, chosen: Settings, stored: dict[str, Any]
) -> None:
    """The cache answers with what another version has stored, unless that is newer than what is read here."""
    context: Any = SimpleNamespace(cache=ResultCache(chosen))
    key = next(key for key in stored if key.startswith("tta:result:")).removeprefix("tta:result:")
    fill(valkey, stored, with_more_fields)
    found = dispatch._stored(key, context)
    assert found is not None
    assert found.ok
    fill(valkey, stored, newer)
    assert dispatch._stored(key, context) is None
