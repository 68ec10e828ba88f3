"""What a person sees of a run."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.report import Report, build_report
from orchestrator.watch import JsonView, LiveView, PlainView, choose_view, print_summary
from tta_tasks.models import RunRecord, Status, TaskRecord

MakeRun = Callable[..., RunRecord]
ESCAPE = "\x1b"
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\u202e\n[bold]x[/bold]"


def terminal(width: int = 80, height: int = 24, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, force_terminal=True, width=width, height=height, highlight=False, _environ={})


def drawn(record: RunRecord, console: Console) -> str:
    """One picture of the live view, without its colours."""
    view = LiveView(console, clock=lambda: record.tasks[0].submitted_at + 12.3)
    view.update(record)
    with console.capture() as capture:
        console.print(view.render())
    return re.sub(r"\x1b\[[\d;]*m", "", capture.get())


def spelled(record: RunRecord, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    with PlainView(stream) as view:
        view.update(record)
    return stream.getvalue()


def at(record: RunRecord, moment: float) -> RunRecord:
    """The run as it was ``moment`` seconds after its submission."""
    now = record.tasks[0].submitted_at + moment

    def then(task: TaskRecord) -> TaskRecord:
        if task.finished_at is not None and task.finished_at <= now:
            return task
        if task.started_at is not None and task.started_at <= now:
            return task.model_copy(update={"status": Status.RUNNING, "finished_at": None, "result": None})
        unknown = {"started_at": None, "finished_at": None, "result": None, "worker": "", "attempts": 0}
        return task.model_copy(update={"status": Status.QUEUED, **unknown})

    return record.model_copy(update={"tasks": tuple(then(task) for task in record.tasks)})


# -- live


def test_the_live_view_shows_stages_modules_and_what_they_do(make_run: MakeRun) -> None:
    """A row a stage, a row a module, with state, words and time."""
    text = drawn(make_run("running", modules=6), terminal(width=120))
    assert re.search(r"A calculator for the command line +calculator to production · async · 12\.3 s", text)
    assert re.search(r"✓ testing +9 passed .* 3\.1 s", text)
    assert re.search(r"▸ generation +1 of 6 modules", text)
    assert re.search(r"▸ +calculator\.parser +round 1: 12 candidates +worker-1@host +8\.8 s", text)
    assert re.search(r"· +calculator\.units +queue openhands", text)
    assert "· production" in text


@pytest.mark.parametrize("outcome", ["success", "gate", "baseline", "dropped", "cancelled", "running", "parked"])
@pytest.mark.parametrize(("width", "height"), [(40, 10), (60, 24), (80, 24), (120, 40)])
def test_every_state_fits_every_terminal(make_run: MakeRun, outcome: str, width: int, height: int) -> None:
    """No line is wider than the terminal, and with many modules the view is not higher."""
    for modules in (0, 1, 40):
        lines = drawn(make_run(outcome, modules=modules), terminal(width, height)).splitlines()
        assert all(len(line) <= width for line in lines)
        assert len(lines) <= max(height, 15)


def test_a_parked_run_says_what_it_waits_for_and_how_to_decide(make_run: MakeRun) -> None:
    """The live view and a line name the wait and the commands; after the approval nobody is asked any more."""
    record = make_run("parked")
    text = drawn(record, terminal(width=120))
    assert re.search(r"‖ production +waits for approval until 20\d\d-", text)
    assert "deploy to production: `tta approve r1` or `tta reject r1`" in text
    line = spelled(record).splitlines()[-1]
    assert re.search(
        r"s  parked +deploy to production  \(waits for approval until 20.*: `tta approve r1` or `tta", line
    )
    assert "tta approve" not in drawn(make_run("approved"), terminal(width=120))


def test_a_change_of_what_is_waited_for_is_told(make_run: MakeRun) -> None:
    """From the soak to the approval is a line of its own; another look at the same wait is not."""
    record = make_run("parked")
    task = record.tasks[-1]
    assert task.promotion is not None
    soaking = task.model_copy(update={"promotion": task.promotion.model_copy(update={"waits_for": "soak"})})
    before = record.model_copy(update={"tasks": (*record.tasks[:-1], soaking)})
    stream = io.StringIO()
    with PlainView(stream) as view:
        for each in (before, before, record, record):
            view.update(each)
    lines = [line for line in stream.getvalue().splitlines() if " parked " in line]
    assert ["staging soaks until" in line for line in lines] == [True, False]
    assert "then it needs approval" in lines[0]


def test_running_and_failed_modules_are_shown_first(make_run: MakeRun) -> None:
    """Where there is no room for all modules, the quiet ones are counted."""
    text = drawn(make_run("running", modules=40), terminal(80, 20))
    assert "parser" in text
    assert "evaluator" in text
    assert re.search(r"others +\d+ queued, 1 completed", text)
    failed = drawn(make_run("success", modules=40), terminal(80, 20))
    assert "cli.py line 3: inv" in failed


def test_a_narrow_terminal_keeps_what_tells_modules_apart(make_run: MakeRun) -> None:
    """The package all modules share is left out before a name is cut."""
    text = drawn(make_run("running", modules=6), terminal(60))
    assert "  evaluator " in text
    assert "calculator.evaluator" not in text


def test_a_terminal_without_unicode_gets_ascii(make_run: MakeRun) -> None:
    """Glyphs, arrows and cut names have plain forms."""
    console = terminal(60, 24, encoding="ascii")
    assert drawn(make_run("success", modules=40), console).isascii()
    print_summary(build_report(make_run("gate")), console)  # would raise UnicodeEncodeError


def test_hostile_names_and_messages_do_nothing_to_the_terminal(make_run: MakeRun) -> None:
    """Escape sequences and markup of others are shown as text, on one line, or not at all."""
    for outcome in ("running", "gate", "baseline"):
        record = make_run(outcome, modules=7, hostile=HOSTILE)
        report = build_report(record)
        console = terminal(200, 50)
        with console.capture() as capture:
            print_summary(report, console)
        for text in (drawn(record, console), re.sub(r"\x1b\[[\d;]*m", "", capture.get()), spelled(record)):
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
            assert "[bold]x[/bold]" in text


def test_a_lost_worker_is_shown_as_another_attempt(make_run: MakeRun) -> None:
    """Whoever watches sees that a task was begun again."""
    record = make_run("running", modules=3)
    tasks = [task.model_copy(update={"attempts": 2}) for task in record.tasks]
    assert "(attempt 2)" in drawn(record.model_copy(update={"tasks": tuple(tasks)}), terminal())


def test_before_the_first_update_something_is_shown() -> None:
    """Planning and submitting take a moment."""
    console = terminal()
    with console.capture() as capture:
        console.print(LiveView(console).render())
    assert "Waiting" in capture.get()


def test_notes_are_shown_below(make_run: MakeRun) -> None:
    """The answer to Ctrl-C is visible at once."""
    console = terminal()
    view = LiveView(console)
    view.update(make_run("running"))
    view.note("Stopping.")
    with console.capture() as capture:
        console.print(view.render())
    assert capture.get().rstrip().endswith("Stopping.\x1b[0m")


# -- lines


def test_piped_output_is_one_line_a_change(make_run: MakeRun) -> None:
    """Each change of a status is said once, in order, with its time and without escape codes."""
    record = make_run("success", modules=3)
    stream = io.StringIO()
    with PlainView(stream) as view:
        for moment in (0, 5, 5, 12, 99):
            view.update(at(record, moment))
        view.update(record)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "A calculator for the command line: calculator to production, async, run r1"
    assert "    3.4s  completed  test  (9 passed)" in lines
    assert "    3.5s  running    generate calculator.tokens" in lines
    assert "    9.5s  completed  generate calculator.tokens  (5 tests, 27.5 % \u2192 90 %)" in lines
    assert len(lines) == len(set(lines))
    times = [float(line.split("s")[0]) for line in lines[1:] if "completed" in line]
    assert times == sorted(times)
    assert ESCAPE not in stream.getvalue()


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_piped_output_has_no_escape_codes_whatever_the_environment(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Colours are for terminals."""
    monkeypatch.setenv(variable, "1")
    stream = io.StringIO()
    view = PlainView(stream)
    with view:
        view.update(make_run("gate"))
    view.summary(build_report(make_run("gate")), {})
    assert ESCAPE not in stream.getvalue()


def test_machines_get_one_object_a_line(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is JSON; the plan comes first, the report last, and notes do not get in between."""
    record = make_run("success", modules=2)
    stream = io.StringIO()
    view = JsonView(stream)
    with view:
        view.update(at(record, 5))
        view.note("Stopping.")
        view.update(record)
    view.summary(build_report(record), {"report": Path("report.html")})
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in (events[0], events[-1])] == ["run", "report"]
    assert {event["event"] for event in events[1:-1]} == {"status"}
    assert events[0]["id"] == "r1"
    assert events[-1]["files"] == {"report": "report.html"}
    assert Report.model_validate(events[-1]["report"]) == build_report(record)
    assert capsys.readouterr().err == "Stopping.\n"


def test_progress_is_an_event_for_machines_only(make_run: MakeRun) -> None:
    """Lines for people stay few."""
    record = make_run("running", modules=2)
    tasks = tuple(t.model_copy(update={"progress": "round 2"}) if t.progress else t for t in record.tasks)
    stream, lines = io.StringIO(), io.StringIO()
    for view in (JsonView(stream), PlainView(lines)):
        view.update(record)
        view.update(record.model_copy(update={"tasks": tasks}))
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["message"] for event in said if event["event"] == "progress"] == ["round 2"]
    assert "round 2" not in lines.getvalue()


# -- summary


def test_the_summary_says_what_matters(make_run: MakeRun) -> None:
    """Verdict, coverage, tests with reasons, refactorings, releases and where they are, time and floor, the report."""
    stream = io.StringIO()
    report = build_report(make_run("success", modules=4))
    files = {"report": Path("out/report.html"), "junit": Path("out/junit.xml"), "tests.patch": Path("out/tests.patch")}
    PlainView(stream).summary(report, files)
    text = stream.getvalue()
    for words in (
        "Live in staging and production.",
        "38.4 % \u2192 91.7 % (80 % asked for)",
        "26 added; 6 rejected: 5 adding nothing, 1 flaky",
        "ruff check --fix 1 kept; pyupgrade 1 dropped; ruff format found nothing",
        "released, .tta/deployments/calculator/production/current",
        "29.9 s, floor 27.9 s on 2 slots; 1 task from the cache",
        "out/report.html",
        "out/tests.patch",
    ):
        assert words in text
    assert "junit.xml" not in text


def test_the_summary_of_a_failing_baseline_names_the_tests(make_run: MakeRun) -> None:
    """The person sees which tests to repair without opening the report."""
    stream = io.StringIO()
    PlainView(stream).summary(build_report(make_run("baseline")), {})
    assert "tests/test_parser.py::test_1" in stream.getvalue()


# -- choice


def test_the_view_fits_the_stream() -> None:
    """Lines for what is no terminal, JSON where it is asked for."""
    assert isinstance(choose_view(stream=io.StringIO()), PlainView)
    assert isinstance(choose_view(as_json=True, stream=io.StringIO()), JsonView)


PROGRAM = """
import sys
from orchestrator.watch import choose_view
from tta_tasks.models import RunRecord
with open(sys.argv[1]) as file:
    record = RunRecord.model_validate_json(file.read())
with choose_view() as view:
    view.update(record)
print(type(view).__name__)
"""


def in_terminal(program: str, argument: Path, **environment: str) -> str:
    """What ``program`` writes to a real terminal."""
    leader, follower = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONUTF8": "1", "COLUMNS": "80", **environment}
    command = [sys.executable, "-c", program, str(argument)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env, cwd=root)
    os.close(follower)
    output = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            block = os.read(leader, 65536)
        except OSError:  # the terminal's other side was closed
            break
        if not block:
            break
        output += block
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return output.decode()


def test_in_a_terminal_the_view_is_live_and_leaves_it_as_it_was(make_run: MakeRun, tmp_path: Path) -> None:
    """Colours are used, the cursor is shown again; ``NO_COLOR`` and a dumb terminal are honoured."""
    path = tmp_path / "record.json"
    path.write_text(make_run("success").model_dump_json())
    live = in_terminal(PROGRAM, path)
    assert "LiveView" in live
    assert f"{ESCAPE}[32m" in live
    assert live.rfind(f"{ESCAPE}[?25h") > live.rfind(f"{ESCAPE}[?25l")
    assert not re.search(r"\x1b\[[\d;]*3[1-7]", in_terminal(PROGRAM, path, NO_COLOR="1"))
    dumb = in_terminal(PROGRAM, path, TERM="dumb")
    assert "PlainView" in dumb
    assert ESCAPE not in dumb
