"""A language model that follows a script: an OpenAI-compatible server on the loopback, run as a process.

The scenario is the model's name; the step is the number of answers the conversation has had. So it keeps no state, and
retries, resumed conversations and several at once make no difference. Each request is a line in the log.

    python scripted_model.py LOG     (prints its port)
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from calculator_tests import CALCULATOR  # type: ignore[import-not-found]  # beside it; this is a script

Answer = str | dict[str, Any]

WEAK = '''"""What the area of a shape is."""

from shapes import area


def test_a_square_has_the_area_of_its_side_squared():
    assert area("square", 3) == 9
'''
BETTER = '''"""What is left of shapes."""

import pytest

from shapes import area, scaled


def test_a_circle_is_round():
    assert area("circle", 1) == pytest.approx(3.14159, abs=1e-4)


def test_a_triangle_is_half_a_square():
    assert area("triangle", 4) == 8


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="blob"):
        area("blob", 1)


@pytest.mark.parametrize(("size", "factor", "expected"), [(2, 3, 6), (2, -1, 0), (2, 50, 20)])
def test_scaling_is_bounded(size, factor, expected):
    assert scaled(size, factor) == expected
'''
GOOD = (
    BETTER.replace('"""What is left of shapes."""', '"""Shapes."""')
    + """

def test_a_square_has_the_area_of_its_side_squared():
    assert area("square", 3) == 9
"""
)
FAILING = GOOD.replace("== 9", "== 10")


@dataclass
class Request:
    """What the model is asked."""

    scenario: str
    messages: list[dict[str, Any]]
    step: int
    #: How often this scenario was asked in this step.
    hit: int

    @property
    def said(self) -> str:
        """All it was told."""
        return "\n".join(_text(message) for message in self.messages if message["role"] != "assistant")

    @property
    def project(self) -> str:
        """The folder it works in."""
        return str(re.findall(r"You work in (\S+?)\.?\s", self.said)[0])

    @property
    def output(self) -> str:
        """The file it is to write, by the latest word."""
        paths = re.findall(r"change nothing else: (\S+)|Write further tests to (\S+\.py)\.", self.said)
        return str(next(path for path in paths[-1] if path))

    @property
    def module(self) -> str:
        """The module it is to test."""
        return str(re.findall(r"tests for the module `([\w.]+)`", self.said)[0])


class Refusal(Exception):
    """An answer that is none."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def call(tool: str, **arguments: object) -> dict[str, Any]:
    return {"name": tool, "arguments": json.dumps({"security_risk": "LOW", "summary": "a step", **arguments})}


def shell(command: str, **more: object) -> dict[str, Any]:
    return call("terminal", command=command, **more)


def create(path: str, text: str) -> dict[str, Any]:
    return call("file_editor", command="create", path=path, file_text=text)


def replace(path: str, old: str, new: str) -> dict[str, Any]:
    return call("file_editor", command="str_replace", path=path, old_str=old, new_str=new)


FINISH = call("finish", message="Done.")


def error(status: int, message: str, kind: str, code: str | None = None) -> Refusal:
    return Refusal(status, json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}))


def steps(request: Request, *answers: Answer) -> Answer:
    """The answer of this step; the last one for ever."""
    return answers[min(request.step, len(answers) - 1)]


def pytest_of(request: Request) -> dict[str, Any]:
    return shell(f"cd {request.project} && python -m pytest -q {request.output} 2>&1 | tail -5", timeout=60)


def writing(request: Request, text: str) -> Answer:
    return steps(request, create(request.output, text), pytest_of(request), FINISH)


# -- scenarios --------------------------------------------------------------------------------------------------------


def calculator(request: Request) -> Answer:
    if "Refactor the source" in request.said:
        return refactor_calculator(request)
    if request.module not in CALCULATOR:
        return FINISH
    source = f"{request.project}/src/{request.module.replace('.', '/')}.py"
    view = call("file_editor", command="view", path=source)
    return steps(request, view, create(request.output, CALCULATOR[request.module]), pytest_of(request), FINISH)


def refactor_calculator(request: Request) -> Answer:
    path = f"{request.project}/src/calculator/units.py"
    old = "    if source == target:\n        return float(value)\n    else:\n        return float("
    new = "    if source == target:\n        return float(value)\n    return float("
    return steps(request, call("file_editor", command="view", path=path), replace(path, old, new), FINISH)


def refactor_wrongly(request: Request) -> Answer:
    path = f"{request.project}/shapes.py"
    return steps(
        request,
        replace(path, "def area(kind, size):", "def area(kind, size, unit=None):"),
        shell(f"sed -i 's/pi/pi_/' {path}; rm -rf {request.project}/tests; echo left $?"),
        FINISH,
    )


def refactor_renaming(request: Request) -> Answer:
    """Renames a parameter; goes back on it when that is not kept."""
    path = f"{request.project}/shapes.py"
    return steps(
        request,
        replace(path, "def scaled(size, factor):", "def scaled(size, by):"),
        replace(path, "size * factor", "size * by"),
        FINISH,
        replace(path, "def scaled(size, by):", "def scaled(size, factor):"),
        replace(
            path,
            "    grown = size * by\n    return max(0, min(grown, 20))",
            "    return max(0, min(size * factor, 20))",
        ),
        FINISH,
    )


def weak(request: Request) -> Answer:
    further = BETTER if request.step > 1 else WEAK
    return steps(request, create(request.output, WEAK), FINISH, create(request.output, further), FINISH)


def mended(request: Request) -> Answer:
    """Its tests fail; the stop hook sends it back."""
    return steps(
        request,
        create(request.output, FAILING),
        FINISH,
        replace(request.output, "== 10", "== 9"),
        pytest_of(request),
        FINISH,
    )


def edits_source(request: Request) -> Answer:
    path = f"{request.project}/shapes.py"
    return steps(
        request,
        replace(path, "return size * size", "return 0"),
        shell(f"echo 'broken = (' >> {path}; echo status $?"),
        shell(f"ln -s {path} {request.output}.link.py; ls -l {request.output}.link.py"),
        replace(f"{request.output}.link.py", "return size * size", "return 0"),
        create(request.output, GOOD),
        FINISH,
    )


def deletes(request: Request) -> Answer:
    return steps(
        request, shell(f"rm -rf /root ~ {request.project} 2>&1 | tail -1"), create(request.output, GOOD), FINISH
    )


def daemons(request: Request) -> Answer:
    forks = "for i in 1 2 3; do setsid sleep 31.4159 > /dev/null 2>&1 & done; nohup sleep 31.4159 & echo started"
    return steps(request, shell(forks), create(request.output, GOOD), FINISH)


def network(request: Request) -> Answer:
    tries = (
        "python -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 3)\" 2>&1 | tail -1;"
        " timeout 5 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>&1 | tail -1; echo tried"
    ).format(port=request.scenario.rpartition("-")[2])
    return steps(request, shell(tries), create(request.output, GOOD), FINISH)


def snoops(request: Request) -> Answer:
    look = (
        "env; cat /proc/self/environ | tr '\\0' '\\n'; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; "
        "cat /proc/*/cmdline | tr '\\0' ' '; cat ~/.ssh/* ~/.netrc 2>&1; ps aux"
    )
    outside = call("file_editor", command="view", path="/etc/hostname")
    return steps(request, shell(look), outside, create(request.output, GOOD), FINISH)


def floods(request: Request) -> Answer:
    return steps(request, shell("yes 0123456789 | head -c 100000000", timeout=60), create(request.output, GOOD), FINISH)


def hangs(request: Request) -> Answer:
    return steps(request, shell("sleep 900", timeout=2), create(request.output, GOOD), FINISH)


def bad_json(request: Request) -> Answer:
    broken = {"name": "terminal", "arguments": '{"command": "ls'}
    return steps(request, broken, create(request.output, GOOD), FINISH)


def unknown_tool(request: Request) -> Answer:
    return steps(request, call("launch_rocket", now=True), create(request.output, GOOD), FINISH)


def once_429(request: Request) -> Answer:
    if request.step == 0 and request.hit == 1:
        raise error(429, "Rate limit reached for requests", "requests", "rate_limit_exceeded")
    return writing(request, GOOD)


def leaks_key(_request: Request) -> Answer:
    raise error(400, "Do not send me sk-secret-of-the-worker, please", "invalid_request_error")


def slowly(request: Request) -> Answer:
    time.sleep(0.4)
    return writing(request, GOOD)


def patient(request: Request) -> Answer:
    """Many small steps, a little time each."""
    time.sleep(0.3)
    answers = [shell(f"echo step {number}") for number in range(8)]
    return steps(request, *answers, create(request.output, GOOD), FINISH)


def _refuse(*refusal: Any) -> Callable[[Request], Answer]:  # noqa: ANN401
    def scenario(_request: Request) -> Answer:
        raise error(*refusal) if len(refusal) > 2 else Refusal(*refusal)

    return scenario


def _sleep(_request: Request) -> Answer:
    time.sleep(30)
    return FINISH


SCENARIOS: dict[str, Callable[[Request], Answer]] = {
    "calculator": calculator,
    "good": lambda request: writing(request, GOOD),
    "weak": weak,
    "mended": mended,
    "failing": lambda request: steps(request, create(request.output, FAILING), FINISH),
    "writes-nothing": lambda _request: FINISH,
    "only-text": lambda _request: "I think that you should write these tests yourself.",
    "edits-source": edits_source,
    "deletes": deletes,
    "daemons": daemons,
    "snoops": snoops,
    "floods": floods,
    "hangs": hangs,
    "bad-json": bad_json,
    "unknown-tool": unknown_tool,
    "loop": lambda _request: shell("echo same"),
    "varied-loop": lambda request: shell(f"echo step {request.step}"),
    "empty": lambda _request: "",
    "429-once": once_429,
    "401": _refuse(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    "429": _refuse(429, "Rate limit reached for requests", "requests", "rate_limit_exceeded"),
    "quota": _refuse(
        429, "You exceeded your current quota, check your plan.", "insufficient_quota", "insufficient_quota"
    ),
    "500": _refuse(500, "The server had an error", "server_error"),
    "400": _refuse(400, "Unsupported parameter", "invalid_request_error", "unsupported_parameter"),
    "not-json": _refuse(200, "<html>this is no JSON</html>"),
    "no-choices": _refuse(
        200, json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": []})
    ),
    "overflow": _refuse(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "invalid_request_error",
        "context_length_exceeded",
    ),
    "timeout": _sleep,
    "leaks-key": leaks_key,
    "slowly": slowly,
    "patient": patient,
    "refactor-wrongly": refactor_wrongly,
    "refactor-renaming": refactor_renaming,
}


# -- the server -------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """One request of the chat completions API."""

    protocol_version = "HTTP/1.1"
    log: ClassVar[Path]
    lock: ClassVar[threading.Lock] = threading.Lock()
    hits: ClassVar[dict[tuple[str, int], int]] = {}
    in_flight: ClassVar[int] = 0

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        """Answer."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scenario, messages = asked["model"].rpartition("/")[2], asked["messages"]
        step = sum(message["role"] == "assistant" for message in messages)
        with self.lock:
            hit = self.hits[scenario, step] = self.hits.get((scenario, step), 0) + 1
            Handler.in_flight += 1
            self._note(scenario, step, messages)
        try:
            self._answer(asked, Request(scenario, messages, step, hit))
        finally:
            with self.lock:
                Handler.in_flight -= 1

    def _note(self, scenario: str, step: int, messages: list[dict[str, Any]]) -> None:
        last = _text(messages[-1])
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        line = {"scenario": scenario, "step": step, "in_flight": Handler.in_flight, "key": key, "last": last}
        with self.log.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _answer(self, asked: dict[str, Any], request: Request) -> None:
        scenario = network if request.scenario.startswith("network-") else SCENARIOS.get(request.scenario)
        try:
            if scenario is None:
                raise error(404, f"model {request.scenario} not found", "invalid_request_error", "model_not_found")
            answer = scenario(request)
        except Refusal as refusal:
            self._send(refusal.status, refusal.body)
            return
        text = answer if isinstance(answer, str) else None
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if not isinstance(answer, str):
            message["tool_calls"] = [{"id": f"call_{uuid.uuid4().hex[:8]}", "type": "function", "function": answer}]
        tokens = len(json.dumps(asked["messages"])) // 4
        self._send(
            200,
            json.dumps(
                {
                    "id": f"chatcmpl-{uuid.uuid4().hex[:8]}",
                    "object": "chat.completion",
                    "created": int(time.time()),
                    "model": request.scenario,
                    "choices": [
                        {"index": 0, "message": message, "finish_reason": "tool_calls" if text is None else "stop"}
                    ],
                    "usage": {"prompt_tokens": tokens, "completion_tokens": 50, "total_tokens": tokens + 50},
                }
            ),
        )

    def _send(self, status: int, body: str) -> None:
        content = body.encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has given up
            self.close_connection = True


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def main() -> None:
    """Serve until killed."""
    Handler.log = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)  # noqa: T201 - its answer
    server.serve_forever()


if __name__ == "__main__":
    main()
