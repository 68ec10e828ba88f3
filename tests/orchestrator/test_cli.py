"""The command line, as its own process: what a person types, sees and gets back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli.faults import Group

#: As a shell in the foreground starts it: one in the background would have it ignore Ctrl-C.
_START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from orchestrator.cli import main"
TTA = [sys.executable, "-P", "-c", f"{_START}; main(prog_name='tta')"]

SPEC = """\
---
component: ring
---
# A ring

It goes round.

## Acceptance criteria

- `step` wraps around at the end.
"""
RING = '''\
"""Positions on a ring."""


def step(position: int, by: int = 1, size: int = 12) -> int:
    """The position ``by`` steps further on a ring of ``size``."""
    if size <= 0:
        raise ValueError("a ring has a size")
    if by == 0:
        return position
    return (position + by) % size
'''


class Shell:
    """A folder to type commands in."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TTA_CACHE_DIR": str(cache), "NO_COLOR": "1", "COLUMNS": "120"}

    def run(self, *args: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run ``tta ARGS`` and hold its exit code."""
        done = subprocess.run(
            [*TTA, *args], cwd=self.folder, env=self.environment | env, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr + done.stdout
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start ``tta ARGS`` in a session of its own."""
        return subprocess.Popen(
            [*TTA, *args],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def git(self, *args: str) -> str:
        """Run git here."""
        command = ["git", *args]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def shell(tmp_path: Path, cache: Path) -> Iterator[Shell]:
    """A git repository with a component that has no tests, and a spec."""
    folder = tmp_path / "repository"
    (folder / "ring").mkdir(parents=True)
    (folder / "ring" / "__init__.py").write_text(RING)
    (folder / "pyproject.toml").write_text('[project]\nname = "ring"\nversion = "1"\nrequires-python = ">=3.11"\n')
    (folder / "ring.md").write_text(SPEC)
    found = Shell(folder, cache)
    found.git("init", "--quiet")
    found.git("config", "user.name", "A Person")
    found.git("config", "user.email", "person@example.org")
    found.git("add", ".")
    found.git("commit", "--quiet", "-m", "Begin")
    yield found
    until = time.monotonic() + 20
    while left := processes_naming(folder):
        assert time.monotonic() < until, f"left running: {left}"
        time.sleep(0.2)


def processes_naming(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                named = str(folder).encode() in command + (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if named and not zombie:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


# -- wrong use --------------------------------------------------------------------------------------------------------

WRONG = {
    "no such spec": (["run", "rnig.md"], 2, r"There is no spec at 'rnig.md'[\s\S]*ring\.md"),
    "spec is a folder": (["run", "ring"], 2, "folder"),
    "empty spec": (["run", "empty.md"], 2, "empty"),
    "binary spec": (["run", "binary.md"], 2, "text|UTF-8"),
    "huge spec": (["run", "huge.md"], 2, "large|MiB|bytes"),
    "unknown component": (["run", "ring.md", "--component", "rang"], 2, "ring"),
    "no such repository": (["run", "ring.md", "--repo", "elsewhere"], 2, "elsewhere"),
    "no Python": (["run", "plain.md", "--repo", "empty"], 2, "Python"),
    "contradiction": (["run", "ring.md", "--enable-openhands", "--engine", "characterize"], 2, "contradict"),
    "unknown target": (["run", "ring.md", "--target", "moon"], 2, "moon"),
    "existing branch": (["run", "ring.md", "--branch", "main"], 2, "main"),
    "unknown command": (["rum"], 2, "rum"),
}


@pytest.mark.parametrize(("args", "code", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_message(shell: Shell, args: list[str], code: int, said: str) -> None:
    """It says what is wrong, exits with 2, and leaves nothing behind."""
    shell.git("branch", "--force", "--move", "main")
    (shell.folder / "empty.md").write_text("")
    (shell.folder / "binary.md").write_bytes(bytes(range(256)) * 10)
    with (shell.folder / "huge.md").open("wb") as huge:
        huge.truncate(50 << 20)
    (shell.folder / "plain.md").write_text("# Plain\n")
    (shell.folder / "empty").mkdir()
    done = shell.run(*args, code=code)
    assert re.search(said, done.stderr)
    assert len(done.stderr.splitlines()) <= 6
    assert not (shell.folder / ".tta").exists()


@pytest.mark.parametrize(
    ("command", "url", "code", "said"),
    [
        (["run", "ring.md"], "redis://127.0.0.1:1/0", 3, "redis://127.0.0.1:1/0 does not answer"),
        (["submit", "ring.md"], "redis://:geheim@127.0.0.1:1/0", 3, "redis://127.0.0.1:1/0 does not answer"),
        (["list"], "redis://:geheim@127.0.0.1:1/0", 3, "redis://127.0.0.1:1/0 does not answer"),
        (["run", "ring.md"], "localhost", 2, "TTA_BROKER_URL"),
        (["list"], "ftp://127.0.0.1", 2, "must begin with one of redis://"),
        (["submit", "ring.md"], "amqp://127.0.0.1", 2, "TTA_RESULT_URL"),
    ],
)
def test_wrong_broker_is_told(shell: Shell, command: list[str], url: str, code: int, said: str) -> None:
    """A broker that cannot be, or is not there, is named without its password."""
    done = shell.run(*command, code=code, TTA_BROKER_URL=url)
    assert said in " ".join(done.stderr.split())
    assert "geheim" not in done.stderr


def test_a_pipe_that_is_closed_is_no_fault(shell: Shell) -> None:
    """`tta doctor | head -1`: who reads has seen enough, and nothing is said of it."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [*TTA, "doctor"]
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            argv, cwd=shell.folder, env=shell.environment, stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert not done.stderr


def test_nothing_is_imported_from_the_current_folder(shell: Shell) -> None:
    """The repository under test may have modules of any name; the local stack, and what is asked of it, know none."""
    trap = "import pathlib; pathlib.Path(__file__).with_suffix('.sprung').touch(); raise SystemExit"
    for name in (
        "workers",
        "orchestrator",
        "tta_tasks",
        "celery",
        "kombu",
        "redis",
        "billiard",
        "pydantic",
        "scripted",
    ):
        (shell.folder / f"{name}.py").write_text(trap)
    shell.run("up", "--slots", "1")
    shell.run("doctor")
    shell.run("down")
    assert not list(shell.folder.glob("*.sprung"))


def test_broker_that_forgets_is_told(shell: Shell, valkey_url: str) -> None:
    """`tta doctor` warns of a server that keeps nothing on its disk."""
    said = shell.run("doctor", TTA_BROKER_URL=valkey_url).stdout
    assert "!!  disk" in said
    assert "the ledger's server keeps no log: what was accepted is lost when it restarts" in said


def test_submitting_to_nowhere_is_told(shell: Shell) -> None:
    """`tta submit` needs a broker, and says which two ways there are."""
    done = shell.run("submit", "ring.md", code=2)
    assert "TTA_BROKER_URL" in done.stderr
    assert "tta up" in done.stderr


def test_a_repository_too_large_is_told(shell: Shell) -> None:
    """A 2 GB file is named before it is read."""
    with (shell.folder / "huge.bin").open("wb") as huge:
        huge.truncate(2 << 30)
    shell.git("add", "--intent-to-add", "huge.bin")
    assert "huge.bin" in shell.run("run", "ring.md", code=2).stderr


def test_a_state_folder_that_cannot_be_is_told(shell: Shell) -> None:
    """`.tta` that is a file is named."""
    (shell.folder / ".tta").write_text("")
    assert ".tta" in shell.run("run", "ring.md", code=2).stderr


# -- the main job -----------------------------------------------------------------------------------------------------


@pytest.mark.stack
def test_a_run_leaves_reports_patches_and_a_branch(shell: Shell) -> None:
    """From spec to staging; the working tree is untouched, the branch has the tests, the release runs."""
    done = shell.run("run", "ring.md", "--async", "--target", "staging", "--budget", "3", "--branch", "made")
    folder = shell.folder / ".tta" / "runs" / "latest"
    for name in ("report.html", "report.json", "report.md", "junit.xml", "tests.patch"):
        assert (folder / name).stat().st_size > 100
    report = json.loads((folder / "report.json").read_text())
    assert (report["status"], report["coverage_before"]) == ("completed", 0)
    assert report["coverage_after"] >= 80
    assert "Live in staging" in done.stdout
    assert shell.git("status", "--porcelain") == ""
    assert shell.git("show", "--stat", "--format=%an", "made").startswith("A Person")
    assert "tests/test_ring_characterization.py" in shell.git("diff", "--name-only", "HEAD", "made")
    python = shell.folder / ".tta/deployments/ring/staging/current/bin/python"
    stepped = subprocess.run([python, "-c", "import ring; print(ring.step(11))"], capture_output=True, check=True)
    assert stepped.stdout.strip() == b"0"

    again = shell.run("run", "ring.md", "--async", "--target", "staging", "--budget", "3", "--json")
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert "Already live in staging" in json.dumps(events[-1])
    assert sum("cached" in json.dumps(event) for event in events) >= 1

    shell.run("run", "ring.md", "--target", "dev", "--budget", "3", "--apply")
    assert shell.git("status", "--porcelain") == "?? tests/"
    listed = shell.run("list").stdout
    assert listed.count("completed") == 3


@pytest.mark.stack
@pytest.mark.slow
def test_a_run_starts_no_program_that_the_repository_names(shell: Shell, tmp_path: Path) -> None:
    """In a whole run, with a branch and changed files, no filter, hook, monitor or remote tells of itself."""
    canary = tmp_path / "canary.sh"
    canary.write_text(f"#!/bin/sh\necho $0 >> {tmp_path}/ran\ncat\n")
    canary.chmod(0o755)
    shell.git("config", "core.repositoryFormatVersion", "1")
    shell.git("config", "extensions.partialClone", "origin")
    shell.git("config", "remote.origin.url", str(tmp_path / "nowhere"))
    for name in ("remote.origin.uploadpack", "filter.evil.clean", "filter.evil.smudge", "core.fsmonitor", "core.pager"):
        shell.git("config", name, str(canary))
    for name in ("reference-transaction", "post-index-change", "pre-commit", "post-commit"):
        (shell.folder / ".git" / "hooks" / name).unlink(missing_ok=True)
        (shell.folder / ".git" / "hooks" / name).symlink_to(canary)
    (shell.folder / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    os.utime(shell.folder / "ring" / "__init__.py", (0, 0))
    (tmp_path / "ran").unlink(missing_ok=True)
    shell.run("run", "ring.md", "--target", "dev", "--budget", "3", "--branch", "made", "--apply")
    assert not (tmp_path / "ran").exists()
    assert (shell.folder / ".git" / "refs" / "heads" / "made").is_file()


@pytest.mark.stack
def test_failing_tests_stop_the_run(shell: Shell) -> None:
    """The failure is shown, and the exit code says that a stage failed."""
    (shell.folder / "tests").mkdir()
    (shell.folder / "tests" / "test_ring.py").write_text("def test_wrong():\n    assert 1 == 2\n")
    shell.git("add", "--intent-to-add", "tests")
    done = shell.run("run", "ring.md", "--target", "dev", code=1)
    assert "tests/test_ring.py::test_wrong" in done.stdout
    assert "assert 1 == 2" in done.stdout


def test_interrupt_has_its_exit_code_in_every_command() -> None:
    """Also before a run was handed in, Ctrl-C ends with 130 and no traceback."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(Group("tta", commands={"wait": click.Command("wait", callback=interrupted)}), ["wait"])
    assert (done.exit_code, done.output) == (130, "Interrupted.\n")


def test_what_takes_long_to_import_is_imported_where_an_interrupt_is_told() -> None:
    """Ctrl-C right after the start is one like any."""
    script = "import sys, orchestrator.cli; print({'pydantic', 'celery', 'redis'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.stack
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_interrupted_run_is_resumed(shell: Shell, how: signal.Signals) -> None:
    """Whatever ends the command, nothing runs on, and `tta resume` brings the run to its end."""
    started = shell.start("run", "ring.md", "--async", "--target", "dev", "--budget", "3")
    assert started.stdout is not None
    seen = ""
    while "running    generate" not in seen:
        line = started.stdout.readline()
        assert line, seen
        seen += line
    run_id = re.findall(r"run ([0-9a-f]{12})", seen)[0]
    started.send_signal(how)
    rest, _ = started.communicate(timeout=30)
    if how is not signal.SIGKILL:
        assert started.returncode == 130
        assert f"tta resume {run_id}" in rest
    until = time.monotonic() + 20
    while left := processes_naming(shell.folder):
        assert time.monotonic() < until, left
        time.sleep(0.2)
    resumed = shell.run("resume", run_id)
    assert "every gate passed" in resumed.stdout
    ended = json.loads(shell.run("status", run_id, "--json").stdout)
    assert {task["status"] for task in ended["tasks"]} == {"completed"}
    testing = next(task for task in ended["tasks"] if task["stage"] == "testing")
    assert testing["attempts"] == 1


@pytest.mark.stack
@pytest.mark.slow
def test_kept_stack_serves_submissions(shell: Shell) -> None:
    """`tta up` stays; `tta submit` returns an id at once; watch, results, cancel and retry speak of it; `tta down`."""
    up = shell.run("up", "--slots", "1")
    assert "export TTA_BROKER_URL=redis+socket://:" in up.stdout
    run_id = shell.run("submit", "ring.md", "--target", "dev", "--budget", "2").stdout.strip()
    watched = shell.run("watch", run_id)
    assert "completed  collect" in watched.stdout
    # A long path goes on in the next line.
    assert "report.html" in "".join(shell.run("results", run_id).stdout.split())
    assert "completed" in shell.run("cancel", run_id).stdout
    retried = shell.run("retry", run_id)
    assert "from the cache" in retried.stdout
    assert "never existed" in shell.run("status", "nope", code=1).stderr
    assert "is completed" in shell.run("resume", run_id, code=2).stderr
    doctor = shell.run("doctor").stdout
    assert "local stack" in doctor
    assert "keeps no log" not in doctor
    inspected = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tta_tasks", "inspect", "ping"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pong" in inspected.stdout
    shell.run("down")
    assert "No local stack" in shell.run("down").stderr


@pytest.mark.stack
@pytest.mark.slow
def test_two_runs_at_once_share_the_stack(shell: Shell) -> None:
    """Two commands in one folder: one stack, both end well."""
    both = [shell.start("run", "ring.md", "--target", "dev", "--budget", "2", "--seed", seed) for seed in "12"]
    outputs = [each.communicate(timeout=200)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert len(list((shell.folder / ".tta" / "logs").glob("supervisor*"))) == 1


@pytest.mark.stack
@pytest.mark.slow
def test_dependencies_that_do_not_install_are_told(shell: Shell) -> None:
    """The decisive line of the resolver, not its whole story."""
    text = (shell.folder / "pyproject.toml").read_text()
    (shell.folder / "pyproject.toml").write_text(text + 'dependencies = ["this-is-no-package-of-anybody==99"]\n')
    done = shell.run("run", "ring.md", "--target", "dev", code=1)
    assert "this-is-no-package-of-anybody" in done.stdout
    assert len(done.stdout.splitlines()) < 40
