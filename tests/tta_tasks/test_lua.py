"""The scripts of Redis: each says what it takes, uses all of that and nothing else, and is called with just that."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from tta_tasks.kinds import KINDS
from tta_tasks.lua import Script, load, scripts, write
from tta_tasks.models import Stage

ROOT = Path(__file__).parents[2]
SCRIPTS = scripts(ROOT / "tta_tasks", ROOT / "workers", ROOT / "orchestrator")
LUACHECK = shutil.which("luacheck") or ""
#: What a script need not declare: what Redis gives it, and Lua's own words.
GIVEN = "ARGV cjson redis ipairs math pairs string table tonumber unpack"
WORDS = "and break do else elseif end false for function if in local nil not or repeat return then true until while"


def undeclared(script: str) -> set[str]:
    """The names that a script uses and declares nowhere."""
    code = re.sub(r"--.*|'[^'\n]*'", "''", script)
    parts = ["", *re.findall(r"[A-Za-z_]\w*|\d[\w.]*|\.+|\S", code), ""]
    declared, used, declaring = {*GIVEN.split(), *WORDS.split()}, set(), False
    for before, part, after in zip(parts, parts[1:], parts[2:], strict=False):
        if part in {"local", "for", "function"}:
            declaring = True
        elif part not in {",", "("} and not (part.isidentifier() and before in {"local", "for", "function", ",", "("}):
            declaring = False
        if not part.isidentifier():
            continue
        if declaring:
            declared.add(part)
        elif before not in {".", ":"} and not (before in {"{", ","} and after == "="):
            used.add(part)
    return used - declared


def script_of(folder: Path, text: str, **included: str) -> Path:
    """A script in a file, and what it includes beside it."""
    for name, other in included.items():
        (folder / f"{name}.lua").write_text(other, encoding="utf-8")
    path = folder / "script.lua"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_uses_what_it_declares_and_nothing_else(path: Path) -> None:
    """No argument is sent for nothing, none is missing, and none is known by its number."""
    source = load(path)
    assert not undeclared(source.text)
    _, declaration, body = source.text.partition("unpack(ARGV, 1, ")
    assert declaration
    for name in filter(None, (*source.names, source.tail)):
        assert re.search(rf"(?<![\w.']){name}(?![\w'])", re.sub("--.*", "", body.partition("\n")[2])), name
    assert not re.search(r"ARGV\[\d|KEYS|--#include", source.text)


def test_argument_that_is_not_declared_is_found() -> None:
    """The test before this one sees it, wherever it is used."""
    declared = "local prefix, now = unpack(ARGV, 1, 2)\n"
    assert undeclared(declared + "return redis.call('GET', prefix .. task_id)") == {"task_id"}
    assert undeclared(declared + "local t = {name = now}\nif t.name == status then return max_events end") == {
        "max_events",
        "status",
    }


def test_scripts_know_no_kind_of_task() -> None:
    """What a kind of task means to the ledger is in fields of its tasks (``optional``, ``gated``)."""
    words = {word for kind in KINDS for word in (kind.task, kind.name)} | {stage.value for stage in Stage}
    for path in (ROOT / "tta_tasks" / "ledger").glob("*.lua"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if f"'{word}'" in text], path


def test_no_script_is_elsewhere() -> None:
    """Python holds none: what is in a string is read by no tool."""
    for package in ("tta_tasks", "workers", "orchestrator"):
        for path in (ROOT / package).rglob("*.py"):
            assert "redis.call(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.skipif(not LUACHECK, reason="luacheck is not installed (Debian: lua-check)")
def test_luacheck_finds_nothing(tmp_path: Path) -> None:
    """Each script, as Redis gets it."""
    write(tmp_path, ROOT / "tta_tasks", ROOT / "workers")
    assert len([*tmp_path.iterdir()]) == len(SCRIPTS)
    command: list[str | Path] = [LUACHECK, "--quiet", "--config", ROOT / ".luacheckrc", tmp_path]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_call_names_each_argument(valkey: redis.Redis, tmp_path: Path) -> None:
    """Constants, arguments and a list at the end come in the order in which the script declares them."""
    declared = "-- Notes.\n-- args: prefix, task_id,\n--       slots, rest...\n"
    text = declared + "return {prefix, task_id, slots, ARGV[rest] or '', #ARGV}"
    script = Script(valkey, script_of(tmp_path, text), prefix="tta:")
    assert script(slots=2, task_id="a", rest=["x", 1.5]) == [b"tta:", b"a", b"2", b"x", 5]
    assert script(slots=2, task_id="a", rest=[]) == [b"tta:", b"a", b"2", b"", 3]
    with valkey.pipeline() as pipe:
        script(pipe, slots=1, task_id="b", rest=["y"])
        assert pipe.execute() == [[b"tta:", b"b", b"1", b"y", 4]]


def test_wrong_call_is_refused(valkey: redis.Redis, tmp_path: Path) -> None:
    """One argument too few or too many, or a constant given again, never gets to the server."""
    path = script_of(tmp_path, "-- args: prefix, now, rest...\nreturn {prefix, now, rest}")
    script = Script(valkey, path, prefix="tta:")
    right = {"now": 1, "rest": []}
    wrong: tuple[dict[str, Any], ...] = ({"now": 1}, {"rest": []}, right | {"due": 2}, right | {"prefix": "other:"})
    for arguments in wrong:
        with pytest.raises(TypeError, match=r"script.lua takes .*now"):
            script(**arguments)
    with pytest.raises(TypeError, match="due"):
        Script(valkey, path, due=1)


def test_include_comes_once(tmp_path: Path) -> None:
    """One that is included by two is there once, before what needs it."""
    path = script_of(
        tmp_path,
        "-- args: now\n--#include _b\n--#include _a\nreturn a() + b()",
        _a="local function a() return now end\n",
        _b="--#include _a\nlocal function b() return a() end\n",
    )
    text = load(path).text
    assert text.count("function a()") == 1
    assert text.index("function a()") < text.index("function b()") < text.index("return a() + b()")


def test_script_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """One without a declaration, and one that includes what is not there."""
    with pytest.raises(ValueError, match="args"):
        load(script_of(tmp_path, "return 1"))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError, match="_nothing"):
        load(script_of(other, "-- args: now\n--#include _nothing\n"))
