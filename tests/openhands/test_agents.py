"""Facts about agents: bounds, models that take over, conversations that go on, and what refactoring keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis

from tta_tasks.errors import Cancelled, EngineFailed, ModelUnavailable
from workers.generators.openhands import OpenHandsGenerator
from workers.refactorers.openhands import OpenHandsRefactorer

if TYPE_CHECKING:
    from tests.openhands.conftest import Bench


def test_an_agent_reads_writes_runs_and_finishes(bench: Bench, processes: Callable[[str], list[str]]) -> None:
    """The real SDK, its tools and the sandboxed shell: tests come out, usage is known, nothing stays running."""
    bench.scenario("good")
    (tests,) = OpenHandsGenerator().generate(bench.job())
    assert tests.path == "tests/test_shapes_openhands.py"
    assert "def test_a_circle_is_round" in tests.source
    told = [request["last"] for request in bench.model.requests]
    assert "Lines not covered: 8-14." in told[0]
    assert "tests/test_shapes.py" in told[0]
    assert "7 passed" in told[2]
    usage = bench.total
    assert (usage.models, usage.calls, usage.attempts) == (("good",), 3, 1)
    assert usage.cost_usd == pytest.approx(usage.prompt_tokens / 1e6 + 2 * usage.completion_tokens / 1e6)
    assert not processes(str(bench.homes[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "bound", "why", "calls"),
    [
        ("AGENT_USD", 0.01, "its money was spent", 3),
        ("AGENT_TOKENS", 9000, "its tokens were used up", 3),
        ("RUN_USD", 0.01, "the run's money was spent", 3),
        ("AGENT_WALL_S", 12, "its time was up", None),
    ],
)
def test_bounds_end_a_sitting(bench: Bench, setting: str, bound: float, why: str, calls: int | None) -> None:
    """Money, tokens and time of a task, and money of a run, end an agent that would go on for ever."""
    bench.configure(bench.entry("varied-loop"), **{"AGENT_CALLS": 500, setting: bound})
    with pytest.raises(EngineFailed, match=why):
        OpenHandsGenerator().generate(bench.job())
    assert calls is None or bench.total.calls <= calls


@pytest.mark.slow
def test_a_run_has_one_purse(bench: Bench) -> None:
    """What one task's agent has spent, another task's of the same run has not."""
    bench.scenario("good", RUN_USD=0.012)
    OpenHandsGenerator().generate(bench.job())
    with pytest.raises(EngineFailed, match="the run's money was spent"):
        OpenHandsGenerator().generate(bench.job(workspace=bench.workspace("task-2")))


@pytest.mark.slow
def test_the_next_model_takes_over(bench: Bench) -> None:
    """A model that refuses its key rests, for all; the next in the chain does the work, and is the only one paid."""
    bench.configure(bench.entry("401"), bench.entry("good", quality=2))
    assert OpenHandsGenerator().generate(bench.job())
    assert bench.total.calls == 3
    assert OpenHandsGenerator().generate(bench.job(workspace=bench.workspace("task-2")))
    assert (bench.model.asked("401"), bench.model.asked("good")) == (1, 6)


@pytest.mark.slow
def test_failures_open_the_breaker(bench: Bench) -> None:
    """After three attempts that a model did not answer, nobody asks it, and that is said."""
    bench.scenario("500")
    for number in range(4):
        with pytest.raises(ModelUnavailable, match="rests after failures" if number > 2 else "does not answer"):
            OpenHandsGenerator().generate(bench.job(workspace=bench.workspace(f"task-{number}")))
    assert bench.model.asked("500") == 6


@pytest.mark.slow
def test_a_further_round_continues_the_conversation(bench: Bench) -> None:
    """In the second round the agent knows what it did in the first; only the new file is handed in."""
    bench.scenario("weak")
    (first,) = OpenHandsGenerator().generate(bench.job())
    (second,) = OpenHandsGenerator().generate(bench.job(2, "tests/test_shapes_openhands_2.py"))
    assert "square" in first.source
    assert second.path == "tests/test_shapes_openhands_2.py"
    assert "triangle" in second.source
    assert "square" not in second.source.replace("half_a_square", "")
    assert [request["step"] for request in bench.model.requests] == [0, 1, 2, 3]
    assert "Your tests were judged" in bench.model.requests[2]["last"]


@pytest.mark.slow
def test_what_was_paid_for_is_not_paid_again(bench: Bench) -> None:
    """An attempt that begins anew after the agent had finished asks no model; what was taken is still known."""
    bench.scenario("good")
    first = OpenHandsGenerator().generate(bench.job())
    taken = bench.total
    bench.usage.clear()
    assert OpenHandsGenerator().generate(bench.job()) == first
    assert bench.model.asked("good") == 3
    assert bench.total.calls == taken.calls
    shutil.rmtree(bench.homes[0])
    assert OpenHandsGenerator().generate(bench.job()) == first
    assert bench.model.asked("good") == 6


@pytest.mark.slow
def test_cancelling_ends_it(bench: Bench, processes: Callable[[str], list[str]]) -> None:
    """A run that is cancelled ends its agent within moments, mid-conversation."""
    bench.scenario("patient")
    workspace = bench.workspace(cancelled=lambda: bench.model.asked("patient") > 2)
    with pytest.raises(Cancelled):
        OpenHandsGenerator().generate(bench.job(workspace=workspace))
    assert bench.model.asked("patient") < 8
    assert not processes(str(bench.homes[0]))


@pytest.mark.slow
def test_requests_a_minute_are_bounded(bench: Bench) -> None:
    """When the minute is used up, the agent waits for the next one, and does not ask before."""
    bench.configure(bench.entry("good", requests_per_minute=2))
    workspace = bench.workspace(cancelled=lambda: any("waiting for good's next minute" in said for said in bench.said))
    with pytest.raises(Cancelled):
        OpenHandsGenerator().generate(bench.job(workspace=workspace))
    assert bench.model.asked("good") == 2


@pytest.mark.slow
def test_a_refactoring_that_does_not_hold_goes_back(bench: Bench) -> None:
    """The agent hears why its change was not kept, in the same conversation, and what then holds is kept."""
    bench.scenario("refactor-renaming")

    def verify() -> str:
        return "changes the public API: parameter was renamed" if "by" in source(bench) else ""

    (step,) = OpenHandsRefactorer().refactor(bench.workspace(), verify).steps
    assert (step.outcome, step.files) == ("kept", ("packages/shapes/shapes.py",))
    assert step.detail == "1 file rewritten in 2 rounds"
    assert "return max(0, min(size * factor, 20))" in source(bench)
    assert any("parameter was renamed" in request["last"] for request in bench.model.requests)


@pytest.mark.slow
def test_a_refactoring_that_never_holds_is_dropped(bench: Bench) -> None:
    """The source is as it was, and so are the tests, which the agent tried to delete."""
    bench.scenario("refactor-wrongly")
    before = source(bench)
    (step,) = OpenHandsRefactorer().refactor(bench.workspace(), lambda: "breaks tests: test_area").steps
    assert (step.outcome, step.detail) == ("dropped", "breaks tests: test_area")
    assert source(bench) == before
    assert (bench.project / "tests" / "test_shapes.py").exists()
    assert (bench.homes[0] / "tree" / "packages" / "shapes" / "tests" / "test_shapes.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("level", ["namespaces", "landlock", "process-group"])
def test_agents_work_at_every_level(bench: Bench, level: str, processes: Callable[[str], list[str]]) -> None:
    """Without bubblewrap, and on hosts whose operator lets them, agents do the same; daemons end all the same."""
    bench.scenario("daemons", AGENTS_UNCONFINED=True)
    (tests,) = OpenHandsGenerator().generate(bench.job(workspace=bench.workspace(level=level)))
    assert "test_a_circle_is_round" in tests.source
    assert not processes("31.4159")
    assert not processes(str(bench.homes[0]))


@pytest.mark.slow
def test_a_repositorys_own_hooks_are_not_run(bench: Bench) -> None:
    """What a repository brings for OpenHands would run outside of the sandbox, so it is left alone."""
    bench.scenario("good")
    file = bench.root / ".openhands" / "hooks.json"
    file.parent.mkdir()
    hook = {"matcher": "*", "hooks": [{"type": "command", "command": "touch packages/shapes/tests/hooked"}]}
    file.write_text(json.dumps({"pre_tool_use": [hook], "session_start": [hook], "stop": [hook]}))
    assert OpenHandsGenerator().generate(bench.job())
    assert (bench.homes[0] / "tree" / ".openhands" / "hooks.json").exists()
    assert not (bench.homes[0] / "tree" / "packages" / "shapes" / "tests" / "hooked").exists()


def test_agents_fail_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sandbox hides neither processes nor network, agents are not available unless an operator says so."""
    bench.scenario("good")
    assert OpenHandsGenerator().available() == ""
    monkeypatch.setattr("workers.openhands.agents.detect_sandbox", Weak)
    assert "TTA_AGENTS_UNCONFINED" in OpenHandsGenerator().available()
    bench.scenario("good", AGENTS_UNCONFINED=True)
    assert OpenHandsGenerator().available() == ""


def test_nothing_is_available_without_a_model(bench: Bench, valkey: redis.Redis) -> None:
    """Without a model, or with a registry that does not hold, it is said what to set."""
    assert valkey.ping()
    assert "TTA_LLM_MODEL" in OpenHandsGenerator().available()
    bench.configure("[[model]]\nname = 'x'\n")
    assert "0.litellm" in OpenHandsGenerator().available()
    assert OpenHandsGenerator().version


class Weak:
    """A sandbox that can do little."""

    level = "landlock"


def source(bench: Bench) -> str:
    return (bench.project / "shapes.py").read_text()
