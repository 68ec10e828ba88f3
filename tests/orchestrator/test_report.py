"""The report, from a run's record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from orchestrator.output_options import OutputOptions, check
from orchestrator.report import Report, build_report, write_reports
from orchestrator.report.html import to_html
from orchestrator.report.junit import to_junit
from orchestrator.report.markdown import to_markdown
from orchestrator.report.wording import change, percent, seconds
from orchestrator.timeline import Span, floor_s, measured_s, slots_of, spans_of
from tta_tasks.errors import UsageError
from tta_tasks.models import CollectionResult, GateOutcome, Mode, RunRecord, Stage, Status

MakeRun = Callable[..., RunRecord]
OUTCOMES = ["success", "gate", "baseline", "dropped", "cancelled", "running", "parked", "approved"]
HOSTILE = "<script>alert(1)</script><img src=//evil>\x00\x1b[31m\u202e|x|`\"'&amp;]]>{{7*7}}"


class Page(HTMLParser):
    """What a browser would find on a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Remember text."""
        self.text += data


def span(label: str, stage: Stage, start: float, end: float, worker: str = "w") -> Span:
    return Span(
        task_id=label,
        label=label,
        stage=stage,
        status=Status.COMPLETED,
        worker=worker,
        attempts=1,
        cached=False,
        ready_s=start,
        started_s=start,
        finished_s=end,
    )


# -- times


def test_the_floor_is_the_longest_way_through_the_run() -> None:
    """Testing, the longest of what runs side by side, collection and deployments; more slots lower only the sum."""
    spans = [span("t", Stage.TESTING, 0, 2), span("r", Stage.REFACTORING, 2, 7), span("c", Stage.COLLECTION, 20, 23)]
    spans += [span(f"g{length}", Stage.GENERATION, 2, 2 + length) for length in (4.0, 6.0, 2.0)]
    spans += [span("s", Stage.STAGING, 23, 24), span("p", Stage.PRODUCTION, 24, 25)]
    fixed = 2 + 3 + 1 + 1
    assert floor_s(spans, 1) == fixed + 12
    assert floor_s(spans, 2) == fixed + 6
    assert floor_s(spans, 9) == fixed + 6
    assert floor_s([item for item in spans if item.stage is not Stage.GENERATION], 2) == fixed + 5
    assert floor_s([], 2) == 0


@pytest.mark.parametrize("mode", Mode)
def test_measured_time_is_never_below_the_floor(make_run: MakeRun, mode: Mode) -> None:
    """The slots of the workers that took part make the floor a bound that the run kept."""
    record = make_run(modules=7, mode=mode)
    assert slots_of(record) == (2 if mode is Mode.ASYNC else 1)
    assert 0 < floor_s(spans_of(record), slots_of(record)) <= measured_s(record)


def test_the_critical_path_leads_back_through_what_was_waited_for(make_run: MakeRun) -> None:
    """A module that waited for a worker is preceded by the one that held it; the refactoring beside is not on it."""
    spans = spans_of(make_run(modules=4))
    critical = [item.label for item in spans if item.critical]
    assert critical[0] == "test"
    assert critical[-3:] == ["collect", "deploy to staging", "deploy to production"]
    assert "refactor" not in critical
    ends = {item.label: item for item in spans}
    chain = [ends[label] for label in critical]
    assert all(a.finished_s <= b.started_s + 0.1 for a, b in pairwise(chain))


def test_one_after_another_everything_is_critical(make_run: MakeRun) -> None:
    """In the synchronous mode the run waits for each task."""
    assert all(item.critical for item in spans_of(make_run(modules=3, mode=Mode.SYNC)))


def test_waiting_counts_from_when_a_task_could_begin(make_run: MakeRun) -> None:
    """A task that needs another one does not wait in its queue before that has ended."""
    by_label = {item.label: item for item in spans_of(make_run(modules=3))}
    tested = by_label["test"].finished_s
    assert by_label["generate calculator.evaluator"].ready_s == pytest.approx(tested)
    assert by_label["collect"].wait_s < 0.2


def test_stage_timings_are_wall_times_in_milliseconds(make_run: MakeRun) -> None:
    """Modules side by side count once."""
    report = build_report(make_run(modules=4))
    generation = [item for item in report.timeline if item.stage is Stage.GENERATION]
    wall = max(item.finished_s for item in generation) - min(item.started_s for item in generation)
    assert report.stage_timings["generation"] == pytest.approx(1000 * wall)
    assert report.stage_timings["testing"] == pytest.approx(3100)


# -- content


def test_a_successful_run(make_run: MakeRun) -> None:
    """Coverage, tests, gates and releases are summed up."""
    report = build_report(make_run(modules=4))
    assert report.status is Status.COMPLETED
    assert report.verdict == "Live in staging and production."
    assert (report.coverage_before, report.coverage_after) == (38.4, 91.7)
    assert report.tests_before == 9
    assert report.tests_accepted == sum(len(module.accepted) for module in report.modules) == 26
    assert report.rejections == {"adds_nothing": 5, "flaky": 1}
    assert report.cached_tasks == 1
    assert [release.action for release in report.releases] == ["released", "released"]


def test_a_parked_run_is_reported_as_such(make_run: MakeRun) -> None:
    """What is waited for is the verdict and the release's state, in every form."""
    report = build_report(make_run("parked"))
    assert report.status is Status.PARKED
    assert report.verdict.startswith("Parked: deploy to production waits for approval until 20")
    assert report.stages[-1].status is Status.PARKED
    for text in (to_html(report), to_markdown(report), to_junit(report)):
        assert "waits for approval until" in text


@pytest.mark.parametrize(("outcome", "asked"), [("parked", True), ("success", False), ("approved", False)])
def test_what_a_gate_asks_a_person_to_decide_is_in_the_report(make_run: MakeRun, outcome: str, asked: bool) -> None:  # noqa: FBT001
    """A parked gate is shown with what it waits for in every form; the verdict has it while a person is waited for."""
    record, gate = make_run(outcome), GateOutcome(name="criteria", outcome="parked", detail="x", waits_for="judge AC3")
    tasks = tuple(
        task.model_copy(update={"result": task.result.model_copy(update={"gates": (gate,)})})
        if isinstance(task.result, CollectionResult)
        else task
        for task in record.tasks
    )
    report = build_report(record.model_copy(update={"tasks": tasks}))
    assert report.verdict.endswith("The gate criteria asks a person to judge AC3.") is asked
    for text in (to_html(report), to_markdown(report), to_junit(report)):
        assert "judge AC3" in text


def test_who_approved_when_is_in_the_report_and_the_wait_is_told_apart(make_run: MakeRun) -> None:
    """The decision is kept and shown; the time it took is no time that anything waited for a worker."""
    report = build_report(make_run("approved"))
    assert report.parked_s == pytest.approx(3600)
    assert report.timeline[-1].wait_s == pytest.approx(1)
    assert report.timeline[-1].finished_s == pytest.approx(report.measured_s - 3600)
    decision = report.releases[-1].decision
    assert decision is not None
    assert (decision.outcome, decision.by, decision.reason) == ("approved", "ada@host", "looks good")
    for text in (to_html(report), to_markdown(report)):
        assert re.search(r"approved by ada(\\)?@host on 20\d\d-.*: looks good", text)
        assert "1 h 00 min" in text


@pytest.mark.parametrize(
    ("outcome", "status", "verdict"),
    [
        ("gate", Status.FAILED, "Stopped by the gate coverage (71.2 % of 80 %)."),
        ("baseline", Status.FAILED, "The component's own tests fail before anything was changed: 2 of 11."),
        ("cancelled", Status.CANCELLED, "The run was cancelled."),
        ("running", Status.RUNNING, "The run is not finished."),
    ],
)
def test_what_came_of_other_runs(make_run: MakeRun, outcome: str, status: Status, verdict: str) -> None:
    """The verdict names what stopped the run."""
    report = build_report(make_run(outcome))
    assert (report.status, report.verdict) == (status, verdict)


def test_failing_tests_of_the_baseline_are_shown(make_run: MakeRun) -> None:
    """Whoever reads the report can go and repair them; what was skipped for them is no fault of its own."""
    report = build_report(make_run("baseline"))
    assert [failure.id for failure in report.failures] == [
        "tests/test_parser.py::test_0",
        "tests/test_parser.py::test_1",
    ]
    assert [stage.stage for stage in report.stages if stage.errors] == [Stage.TESTING]
    for text in (to_html(report), to_markdown(report), to_junit(report)):
        assert "assert None == 3" in text


def test_a_module_that_failed_says_why_and_fails_nothing(make_run: MakeRun) -> None:
    """One module's syntax error leaves the run successful."""
    report = build_report(make_run(modules=6))
    assert report.modules[5].status is Status.FAILED
    assert "invalid syntax" in report.modules[5].note
    assert report.status is Status.COMPLETED


def test_a_reason_that_many_share_is_given_once(make_run: MakeRun) -> None:
    """Eight modules that fail for one reason are one line."""
    record = make_run(modules=8)
    failed = record.tasks[6]
    tasks = [failed.model_copy(update={"id": task.id, "label": task.label}) for task in record.tasks[1:9]]
    report = build_report(record.model_copy(update={"tasks": (record.tasks[0], *tasks, *record.tasks[9:])}))
    (error,) = next(stage.errors for stage in report.stages if stage.stage is Stage.GENERATION)
    assert error == "generate calculator.tokens and 7 more: src/calculator/cli.py line 3: invalid syntax"


def test_dropped_tests_are_not_counted(make_run: MakeRun) -> None:
    """Tests that collection dropped are neither added nor speak to a criterion, and the module says why."""
    kept, dropped = build_report(make_run("success")), build_report(make_run("dropped"))
    parser = next(module for module in dropped.modules if module.name == "calculator.parser")
    assert parser.accepted == ()
    assert parser.note == "Dropped in collection: fails with the refactoring"
    assert dropped.tests_accepted < kept.tests_accepted
    assert not any("calculator.parser::" in test for item in dropped.criteria for test in item.tests)


def test_criteria_list_the_tests_that_speak_to_them(make_run: MakeRun) -> None:
    """A criterion without a known test is listed, too."""
    report = build_report(make_run(modules=2))
    assert [item.criterion.id for item in report.criteria] == ["AC1", "AC2", "AC3", "AC4", "AC5", "AC6"]
    assert "calculator.tokens::test_tokens_0" in report.criteria[0].tests
    assert report.criteria[5].tests == ()


def test_it_is_said_that_generated_tests_are_no_judgement(make_run: MakeRun) -> None:
    """No reader takes characterization tests for a proof."""
    report = build_report(make_run())
    for text in (to_html(report), to_markdown(report), report.model_dump_json()):
        assert "do not judge whether that behaviour is right" in text


def test_the_report_is_pure(make_run: MakeRun) -> None:
    """The same record gives the same bytes, and a report survives its JSON."""
    first, second = build_report(make_run(modules=5)), build_report(make_run(modules=5))
    assert to_html(first) == to_html(second)
    assert Report.model_validate_json(first.model_dump_json()) == first


# -- forms


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("modules", [0, 1, 40])
def test_every_state_has_every_form(make_run: MakeRun, tmp_path: Path, outcome: str, modules: int) -> None:
    """Reports are written for any end, any size and unfinished runs; each file reads back."""
    record = make_run(outcome, modules=modules, criteria=modules % 7)
    files = write_reports(build_report(record), record, tmp_path / "new" / "folder")
    assert {path.name for path in files.values()} == {
        "junit.xml",
        "record.json",
        "report.html",
        "report.json",
        "report.md",
    }
    assert json.loads(files["json"].read_text())["status"] == record.status
    assert RunRecord.model_validate_json(files["record"].read_text()) == record
    assert MarkdownIt("commonmark").enable("table").render(files["markdown"].read_text()).startswith("<h1>")
    assert len(list(JUnitXml.fromfile(str(files["junit"])))) == len(build_report(record).stages)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_hostile_text_stays_text(make_run: MakeRun, tmp_path: Path, outcome: str) -> None:
    """Names and messages that hold markup, control characters or template code do nothing anywhere."""
    plain = build_report(make_run(outcome, modules=7))
    record = make_run(outcome, modules=7, hostile=HOSTILE)
    files = write_reports(build_report(record), record, tmp_path)
    page, harmless = Page(files["report"].read_text()), Page(to_html(plain))
    assert "<script>alert(1)</script>" in page.text
    assert {*page.tags} <= {*harmless.tags, "details", "summary"}
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "49" not in page.text.split("{{7*7}}")[1][:2]
    rendered = MarkdownIt("commonmark").enable("table").render(files["markdown"].read_text())
    assert "<script" not in rendered
    assert "<img" not in rendered
    for file in ("report", "markdown", "junit"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", files[file].read_text())
    ET.fromstring(files["junit"].read_text())  # noqa: S314 - our own output


def test_the_page_is_self_contained(make_run: MakeRun) -> None:
    """Nothing is fetched, no script runs, and the page forbids both itself."""
    html = to_html(build_report(make_run(modules=8)))
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "form"} & {*page.tags}
    assert not [name for name, _ in page.attributes if name in {"src", "href", "style"} or name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    policy = next(value for name, value in page.attributes if name == "content" and value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_timeline_names_each_task(make_run: MakeRun) -> None:
    """Each bar has a title and each lane a label for those who do not see it; widths stay inside."""
    html = to_html(build_report(make_run(modules=4)))
    assert html.count('class="bar completed') == 9
    assert "generate calculator.units: 9.9 s to 20.0 s, completed" in html
    for x, width in re.findall(r'class="bar [^"]+" x="([\d.]+)%" y="5" width="([\d.]+)%"', html):
        assert 0 <= float(x) <= 100
        assert float(x) + float(width) <= 100.5


def test_many_modules_share_lanes(make_run: MakeRun) -> None:
    """Forty modules on two workers are two lanes, not forty."""
    html = to_html(build_report(make_run(modules=40)))
    assert re.findall(r">slot (\d+)<", html) == ["1", "2"]


def test_junit_agrees_with_the_run(make_run: MakeRun) -> None:
    """What does not fail the run is no failure for a CI server; what does, is."""
    good = JUnitXml.fromstring(to_junit(build_report(make_run(modules=6))).encode())
    assert (good.failures, good.errors) == (0, 0)
    assert good.skipped > 0
    gate = JUnitXml.fromstring(to_junit(build_report(make_run("gate"))).encode())
    assert gate.failures == 1
    baseline = JUnitXml.fromstring(to_junit(build_report(make_run("baseline"))).encode())
    assert (baseline.failures, baseline.errors) == (2, 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "\u2013"), (0.0, "0 %"), (80.0, "80 %"), (91.66, "91.7 %"), (99.99, "99.9 %"), (100.0, "100 %")],
)
def test_percentages_are_rounded_but_never_to_all(value: float | None, said: str) -> None:
    """99.99 % is not all."""
    assert percent(value) == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(None, None, "\u2013"), (5, None, "5 %"), (None, 5, "5 %"), (5, 5.01, "5 %"), (5, 9, "5 % \u2192 9 %")],
)
def test_what_did_not_change_is_one_figure(before: float | None, after: float | None, said: str) -> None:
    """An arrow means a change."""
    assert change(before, after) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\u2013"),
        (-1, "0.00 s"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 00 s"),
        (3720, "1 h 02 min"),
    ],
)
def test_durations_are_said_for_people(value: float | None, said: str) -> None:
    """The unit fits the length."""
    assert seconds(value) == said


def test_reports_replace_links(make_run: MakeRun, tmp_path: Path) -> None:
    """A repository that has links where reports go has nothing written through them."""
    (tmp_path / "canary").write_text("mine")
    (tmp_path / "out").mkdir()
    for name in ("report.html", "report.json", "record.json"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "canary")
    record = make_run()
    files = write_reports(build_report(record), record, tmp_path / "out")
    assert (tmp_path / "canary").read_text() == "mine"
    assert not any(path.is_symlink() for path in files.values())
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match=r"is a link to .*--output"):
        check(OutputOptions(repository=tmp_path, folder=tmp_path / "link"))
