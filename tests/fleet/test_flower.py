"""Flower as it is started here, on real workers, in a real browser."""

from __future__ import annotations

import base64
import http.client
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tta_tasks.models import Component, GenerationRequest, Module, Status
from tta_tasks.tasks import generate_tests
from workers.process.celery_request import true_end

if TYPE_CHECKING:
    from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.stack

PASSWORD = "looks-but-does-not-touch"  # noqa: S105 - of this test's own Flower
TTA = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@dataclass
class Flower:
    """A running Flower."""

    port: int

    def ask(self, path: str, *, word: str = PASSWORD, method: str = "GET") -> tuple[int, str]:
        """Status and text of an answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"tta:{word}".encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks it has seen, by id."""
        found: dict[str, dict[str, Any]] = json.loads(self.ask("/api/tasks")[1])
        return found

    def worker(self) -> str:
        """The worker that it hears of; empty while it hears of none."""
        status, text = self.ask("/api/workers?status=1")
        return next(iter(json.loads(text)), "") if status == 200 else ""

    def page(self, path: str, profile: Path) -> str:
        """The text of a page in the browser, once its scripts have run."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            assert not os.environ.get("CI"), "CI must have a Chromium"
            pytest.skip("no Chromium here")
        argv = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        argv += ["--virtual-time-budget=8000", "--dump-dom", f"http://tta:{PASSWORD}@127.0.0.1:{self.port}{path}"]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def flower(fleet: Fleet, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]) -> Iterator[Flower]:
    """Flower on the fleet's broker."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        started = Flower(probe.getsockname()[1])
    environment = {**os.environ, "TTA_BROKER_URL": fleet.settings.broker, "TTA_FLOWER_PASSWORD": PASSWORD}
    with (tmp_path / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            [*TTA, "flower", f"--port={started.port}"], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        eventually(lambda: started.ask("/healthcheck")[0] == 200)
        yield started
    finally:
        process.terminate()
        process.wait()


def _heard(fleet: Fleet, flower: Flower, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """Start a worker, and wait until Flower has asked it to tell what it does: until then it tells nobody."""
    fleet.start()
    eventually(lambda: "enabled by remote" in (fleet.folder / "worker-0.log").read_text())
    eventually(lambda: flower.worker() != "")


def test_ends_are_told_apart_in_the_browser(
    fleet: Fleet, flower: Flower, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Behind its password the browser shows the worker, and a run's tasks by label, queue and true end."""
    _heard(fleet, flower, eventually)
    tasks = [
        task
        for name, modules in (("calculator", ["one", "two_fails"]), ("broken", ["three"]))
        for task in fleet.ended(fleet.submit(modules, name=name)).tasks
    ]
    final = {"SUCCESS", "FAILURE", "REVOKED"}
    ids = {task.id for task in tasks}
    eventually(lambda: {key for key, task in flower.tasks().items() if task["state"] in final} >= ids)

    seen = flower.tasks()
    expected = {"completed": "SUCCESS", "failed": "FAILURE", "skipped": "REVOKED"}
    assert [seen[task.id]["state"] for task in tasks] == [expected[task.status] for task in tasks]
    assert [seen[task.id]["routing_key"] for task in tasks] == [task.queue for task in tasks]
    assert {task.status for task in tasks} == set(expected)
    page = flower.page("/tasks", tmp_path / "browser")
    for shown in (
        "generate two_fails",
        "EngineFailed: It gave up.",
        "FAILURE",
        "SUCCESS",
        "REVOKED",
        "openhands",
        "deployment",
    ):
        assert shown in page
    assert flower.worker() in flower.page("/workers", tmp_path / "browser")


@pytest.mark.slow
def test_payloads_stay_out_of_sight(
    fleet: Fleet, flower: Flower, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Of a task that was published with its request neither the events nor an inspected worker show the request."""
    _heard(fleet, flower, eventually)
    module = Module(name="one_waits", path="one.py")
    component = Component(name="calculator", modules=(module,))
    request = GenerationRequest(snapshot="5ec2e7" + "0" * 58, component=component, module=module)
    told = generate_tests.delay(request.model_dump(mode="json"))
    eventually(lambda: flower.tasks().get(told.id, {}).get("state") == "STARTED")
    assert flower.tasks()[told.id]["args"] == "('with its own request',)"
    flower.ask("/api/workers?refresh=1")
    for path in (f"/worker/{flower.worker()}", f"/task/{told.id}"):
        assert told.id in flower.ask(path)[1]
        assert request.snapshot not in flower.ask(path)[1]
    fleet.client.cancel(told.id)


@pytest.mark.slow
def test_nothing_without_the_password_and_nothing_but_looking(flower: Flower) -> None:
    """Pages, API and figures ask for the password; who has it cannot stop a worker, revoke or submit."""
    for path in ("/tasks", "/api/tasks", "/metrics"):
        assert flower.ask(path, word="guessed")[0] == 401
        assert flower.ask(path)[0] == 200
    for path in ("worker/shutdown/test-0@x", "task/revoke/1", "task/async-apply/tta_tasks.deploy", "task/abort/1"):
        assert flower.ask(f"/api/{path}", method="POST")[0] == 403


@pytest.mark.parametrize("password", ["", "short"])
def test_no_password_no_flower(password: str) -> None:
    """Without a password that protects, Flower does not start and says what to set."""
    environment = {**os.environ, "TTA_BROKER_URL": "redis://127.0.0.1:1/0", "TTA_FLOWER_PASSWORD": password}
    ended = subprocess.run([*TTA, "flower"], env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "Set TTA_FLOWER_PASSWORD" in ended.stderr


OAUTH = {
    "FLOWER_AUTH_PROVIDER": "github",
    "FLOWER_AUTH": r".*@example\.com",
    "FLOWER_OAUTH2_KEY": "tta",
    "FLOWER_OAUTH2_REDIRECT_URI": "https://flower.example/login",
}


def test_login_elsewhere(valkey_url: str, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]) -> None:
    """With OAuth nobody sees pages, API or figures without a login, and whoever comes is sent to the provider."""
    (tmp_path / "secret").write_text("geheim\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        started = Flower(probe.getsockname()[1])
    environment = {**os.environ, **OAUTH, "TTA_BROKER_URL": valkey_url}
    environment["FLOWER_OAUTH2_SECRET_FILE"] = str(tmp_path / "secret")
    argv = [*TTA, "flower", f"--port={started.port}"]
    process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        eventually(lambda: started.ask("/healthcheck")[0] == 200)
        pages = ("/", "/tasks", "/api/tasks", "/metrics")
        assert {_stranger(started, page)[0] for page in pages} == {302}
        asked = _stranger(started, "/login")[1]
        assert asked.startswith("https://github.com/login/oauth/authorize?")
        assert "client_id=tta" in asked
    finally:
        process.terminate()
        process.wait()


def _stranger(flower: Flower, path: str) -> tuple[int, str]:
    """What somebody is answered who is not logged in, and where to go."""
    with closing(http.client.HTTPConnection("127.0.0.1", flower.port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Location", "")


@pytest.mark.parametrize("change", [{}, {"FLOWER_OAUTH2_SECRET": "s", "FLOWER_AUTH_PROVIDER": "nobody"}])
def test_login_that_is_half_set_up(change: dict[str, str]) -> None:
    """A login with a part missing, or of a provider there is none of, is told before Flower starts."""
    environment = {**os.environ, **OAUTH, **change, "TTA_BROKER_URL": "redis://127.0.0.1:1/0"}
    ended = subprocess.run([*TTA, "flower"], env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert ("FLOWER_OAUTH2_SECRET not set" if not change else "no such FLOWER_AUTH_PROVIDER: nobody") in ended.stderr
    assert "A login needs FLOWER_AUTH, FLOWER_OAUTH2_KEY" in ended.stderr


def test_shipped_configuration_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts Flower by hand with deploy/'s file has what `tta flower` has: a password, nothing but looking."""
    monkeypatch.setenv("TTA_FLOWER_PASSWORD", PASSWORD)
    shipped = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "flower" / "flowerconfig.py"))
    assert shipped["basic_auth"] == [f"tta:{PASSWORD}"]
    assert shipped["read_only"]
    assert shipped["address"] == "127.0.0.1"


@pytest.mark.parametrize("message", ['It\'s "both"', "two\nlines", "back\\slash", "'}"])
def test_any_message_of_a_failure_is_told(message: str) -> None:
    """Celery writes an answer without escapes; the end and its message are read from it all the same."""
    told = true_end(f"{{'task_id': '1', 'status': 'failed', 'error': 'E: {message}'}}")
    assert told is not None
    assert told[0] == "task-failed"
    assert told[1]["exception"] == f"E: {message}"


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_copies_tell_no_end(status: Status) -> None:
    """A copy of a message, whose task is still to end, ends nothing in the eyes of Flower."""
    assert true_end(f"{{'task_id': '1', 'status': '{status}'}}") is None
