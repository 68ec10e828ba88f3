"""The systemd units, as far as they can be judged without systemd. The threat model names these tests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tta_tasks.queues import NAMES


@pytest.fixture(scope="module")
def units(root: Path) -> Path:
    return root / "deploy" / "systemd"


def _settings(units: Path, unit: str, instance: str = "") -> dict[str, list[str]]:
    """What holds for a unit, or an instance of its template, with its drop-ins: the last of each, but for lists."""
    files = [units / unit, *sorted((units / f"{unit.replace('@', f'@{instance}')}.d").glob("*.conf"))]
    found: dict[str, list[str]] = {}
    for file in files:
        for name, value in re.findall(r"^(\w+)=(.*)$", file.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, []).append(value.replace("%i", instance))
    return found


def test_what_is_deployed_is_of_another_user_than_what_runs_tests(units: Path) -> None:
    """Collection and deployment have users, and each worker a cache and a state folder, that no other worker has."""
    workers = {queue: _settings(units, "tta-worker@.service", queue) for queue in NAMES}
    users = {queue: settings["User"][-1] for queue, settings in workers.items()}
    assert users == {**dict.fromkeys(NAMES, "tta"), "collection": "tta-collection", "deployment": "tta-deployment"}
    for queue, settings in workers.items():
        own = f"tta-worker-{queue}"
        assert settings["Group"][-1] == users[queue]
        assert settings["CacheDirectory"] == settings["RuntimeDirectory"] == [own]
        assert settings["CacheDirectoryMode"] == settings["RuntimeDirectoryMode"] == ["0700"]
        assert settings["ProtectSystem"] == ["strict"], "other folders are not to be written"
        assert f"TTA_CACHE_DIR=%C/{own} TTA_STATE_DIR=%t/{own}" in settings["Environment"]
        assert ("-/srv/releases" in settings.get("ReadWritePaths", ())) == (queue == "deployment")
    serve = _settings(units, "tta-serve.service")
    assert (serve["User"], serve["CacheDirectory"]) == (["tta-deployment"], ["tta-serve"])
    made = re.findall(r"^u (\S+)", (units / "tta.sysusers").read_text(encoding="utf-8"), re.MULTILINE)
    used = {name for unit in units.glob("*.service") for name in _settings(units, unit.name)["User"]}
    assert set(made) == used | {*users.values()}


def test_cgroups_are_delegated_to_who_runs_foreign_code(units: Path) -> None:
    """The sandbox bounds memory and processes by cgroups, which systemd must leave to the unit, and writable."""
    for settings in (_settings(units, "tta-worker@.service", "testing"), _settings(units, "tta-serve.service")):
        assert settings["Delegate"] == ["memory pids"]
        assert settings["DelegateSubgroup"]
        assert settings.get("ProtectControlGroups", ["no"]) == ["no"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_units(units: Path) -> None:
    """No line is unknown to this host's systemd but those of newer versions."""
    command = ["systemd-analyze", "verify", *map(str, units.glob("tta-*.service"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    unknown = [line for line in done.stderr.splitlines() if "Unknown" in line and "'DelegateSubgroup'" not in line]
    assert unknown == []
