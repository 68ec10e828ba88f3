"""The table of docs/reference/openhands-failures.md, row by row: a real agent, whose model follows a script.

Whatever happens: nothing stays running, the tree is as it was, and the model's key is nowhere.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tta_tasks.errors import TtaError
from workers.generators.openhands import OpenHandsGenerator

if TYPE_CHECKING:
    from tests.openhands.conftest import Bench

pytestmark = pytest.mark.slow

SECRET = "sk-secret-of-the-worker"  # noqa: S105 - made up
TESTS = "tests/test_shapes_openhands.py$"
NOTHING = "EngineFailed: The agent wrote no tests"
UNAVAILABLE = "ModelUnavailable: No language model could be used: "
#: Scenario -> how it ends, how often the model is asked, and how many of these it answers.
ROWS: dict[str, tuple[str, int, int]] = {
    "401": (f"{UNAVAILABLE}401 refused the key", 1, 0),
    "429": (f"{UNAVAILABLE}429 answers too many requests", 2, 0),
    "429-once": (TESTS, 4, 3),
    "quota": (f"{UNAVAILABLE}quota has no credit left", 1, 0),
    "500": (f"{UNAVAILABLE}500 does not answer", 2, 0),
    "not-json": (f"{UNAVAILABLE}not-json does not answer", 2, 0),
    "no-choices": (f"{UNAVAILABLE}no-choices does not answer", 2, 0),
    "timeout": (f"{UNAVAILABLE}timeout does not answer", 2, 0),
    "400": (f"{UNAVAILABLE}400 refused the request", 1, 0),
    "no-such-model": (f"{UNAVAILABLE}no-such-model refused the request", 1, 0),
    "overflow": (f"{UNAVAILABLE}overflow: the conversation does not fit into its context", 6, 0),
    "leaks-key": (rf"{UNAVAILABLE}leaks-key refused the request: .*Do not send me \[key\]", 1, 0),
    "empty": (f"{NOTHING}; it repeated itself", 3, 3),
    "loop": (f"{NOTHING}; it repeated itself", 4, 4),
    "varied-loop": (f"{NOTHING}; its calls were used up", 6, 6),
    "writes-nothing": (NOTHING, 4, 4),
    "only-text": (NOTHING, 4, 4),
    "bad-json": (TESTS, 3, 3),
    "unknown-tool": (TESTS, 3, 3),
    "failing": (TESTS, 5, 5),
    "mended": (TESTS, 5, 5),
    "edits-source": (TESTS, 6, 6),
    "deletes": (TESTS, 3, 3),
    "daemons": (TESTS, 3, 3),
    "network": (TESTS, 3, 3),
    "snoops": (TESTS, 4, 4),
    "floods": (TESTS, 3, 3),
    "hangs": (TESTS, 3, 3),
}
#: What the agent is told by the tool, where that is the point.
TOLD = {
    "bad-json": "Error validating",
    "unknown-tool": "launch_rocket",
    "mended": "do not pass. Mend them",
    "edits-source": r"is read-only here[\s\S]*Read-only file system[\s\S]*is read-only here",
    "deletes": "Read-only file system",
    "network": "Network is unreachable|Connection refused",
    "snoops": r"hostname is outside of",
    "hangs": r"\[Ended after 2 s: it took too long\]",
}
#: What is set otherwise for a row.
SETTINGS: dict[str, dict[str, object]] = {"varied-loop": {"AGENT_CALLS": 6}}


@pytest.mark.parametrize("scenario", ROWS)
def test_row(bench: Bench, scenario: str, processes: Callable[[str], list[str]]) -> None:
    """An attempt ends as the table says, is charged as it says, and leaves nothing behind but its conversation."""
    tree = contents(bench.root)
    ending, asked, answered = ROWS[scenario]
    with surroundings() as port:
        name = f"network-{port}" if scenario == "network" else scenario
        patience = 3.0 if scenario == "timeout" else 20.0
        bench.configure(bench.entry(name, timeout_s=patience), **SETTINGS.get(scenario, {}))
        ended = attempt(bench)
    told = "\n".join(request["last"] for request in bench.model.requests)
    assert re.search(ending, ended), ended
    assert (bench.model.asked(name), bench.total.calls) == (asked, answered)
    assert (bench.total.cost_usd > 0) == (answered > 0)
    assert re.search(TOLD.get(scenario, ""), told), told
    assert contents(bench.root) == tree
    (home,) = bench.homes
    assert (home / "tree" / "packages" / "shapes" / "shapes.py").read_text() == tree["packages/shapes/shapes.py"]
    assert not processes(str(home))
    assert not processes("31.4159")
    assert {request["key"] for request in bench.model.requests} == {SECRET}
    assert SECRET not in "".join([ended, told, *bench.said, *contents(home).values()])
    assert max(map(len, (request["last"] for request in bench.model.requests))) < 40_000


def attempt(bench: Bench) -> str:
    """How an attempt ends, in a line."""
    try:
        (candidate,) = OpenHandsGenerator().generate(bench.job())
    except TtaError as error:
        return f"{type(error).__name__}: {error}"
    return candidate.path


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def surroundings() -> Iterator[int]:
    """A process with a secret in its environment, and a service on the loopback; the service's port."""
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        subprocess.Popen(["/bin/sleep", "120"], env={"PASSWORD": SECRET}) as neighbour,
    ):
        yield service.getsockname()[1]
        neighbour.kill()
        service.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has come
            service.accept()
