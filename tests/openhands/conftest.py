"""Real agents: the SDK, its tools, the runner, the sandboxed shell and the limits; only the model follows a script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from tta_tasks.models import Component, Module, ModuleCoverage, RejectedTest, Usage
from tta_tasks.protocols import GenerationJob, Limits, Workspace
from tta_tasks.settings import settings
from workers.environment.interpreters import find_interpreter
from workers.openhands.installation import PYTHON, install
from workers.sandbox import ProcessSandbox, detect_sandbox

HERE = Path(__file__).parent
#: Searched for in all that a run leaves behind.
SECRET = "sk-secret-of-the-worker"  # noqa: S105 - made up
SHAPES = '''"""Shapes."""

from math import pi


def area(kind, size):
    """The area of a shape."""
    if kind == "square":
        return size * size
    if kind == "circle":
        return pi * size * size
    if kind == "triangle":
        return size * size / 2
    raise ValueError(f"no shape is called {kind}")


def scaled(size, factor):
    """A size, scaled within bounds."""
    grown = size * factor
    return max(0, min(grown, 20))
'''
EXISTING = '''"""What is there."""

from shapes import scaled


def test_scaling_by_one_changes_nothing():
    assert scaled(3, 1) == 3
'''
COMPONENT = Component(name="shapes", root="packages/shapes", modules=(Module(name="shapes", path="shapes.py"),))
UNCOVERED = ModuleCoverage(
    path="shapes.py",
    statements=14,
    covered_statements=7,
    branches=6,
    covered_branches=0,
    missing_lines=(8, 9, 10, 11, 12, 13, 14),
)


@pytest.fixture(scope="session")
def engine() -> Path:
    """The interpreter of the engine's environment, made once on this host."""
    try:
        find_interpreter(PYTHON)
    except Exception:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Python {PYTHON} here")
    settings.cache_clear()
    return install("openhands")


def _linked(source: str, target: str) -> None:
    """The same file once more, or a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def host_cache(engine: Path) -> Path:
    """The cache folder that the engine is in."""
    return engine.parents[4]


@pytest.fixture(scope="session")
def engine_cache(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for tests, with that engine in it: tens of thousands of files, so there is one for all."""
    cache = tmp_path_factory.mktemp("engine-cache")
    (cache / "engines").mkdir()
    home = engine.parents[2]
    # Not a link: a cache folder holds none.
    shutil.copytree(home, cache / "engines" / home.name, symlinks=True, copy_function=_linked)
    shutil.copy(home.with_name(f"{home.name}.json"), cache / "engines")
    return cache


@dataclass
class ScriptedModel:
    """The scripted server."""

    url: str
    log: Path

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What it was asked so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def asked(self, scenario: str) -> int:
        """How often."""
        return sum(request["scenario"] == scenario for request in self.requests)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ScriptedModel]:
    """A scripted model, as a process of its own."""
    log = tmp_path / "model.jsonl"
    argv = [sys.executable, str(HERE / "scripted_model.py"), str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield ScriptedModel(f"http://127.0.0.1:{port}/v1", log)
        server.kill()


@dataclass
class Bench:
    """A component, and what it takes to have an agent at work on it."""

    folder: Path
    cache: Path
    python: Path
    model: ScriptedModel
    monkeypatch: pytest.MonkeyPatch
    said: list[str] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The tree of the task."""
        return self.folder / "tree"

    @property
    def project(self) -> Path:
        """The component's project in it."""
        return self.root / COMPONENT.root

    def entry(self, scenario: str, **more: object) -> str:
        """An entry of the registry for a scenario."""
        fields = {
            "name": scenario,
            "litellm": f"openai/{scenario}",
            "base_url": self.model.url,
            "input_usd": 1.0,
            "output_usd": 2.0,
            "attempts": 2,
            "retry_wait_s": 0,
            "timeout_s": 20.0,
            **more,
        }
        return "[[model]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())

    def configure(self, *entries: str, **variables: object) -> None:
        """Name the models, and set further settings of the worker."""
        file = self.folder / "models.toml"
        file.write_text("\n".join(entries))
        values = {"MODELS_FILE": file, "LLM_API_KEY": SECRET, **variables}
        for name, value in values.items():
            self.monkeypatch.setenv(f"TTA_{name}", str(value))
        settings.cache_clear()

    def scenario(self, name: str, **variables: object) -> None:
        """One model, which follows a script."""
        self.configure(self.entry(name), **variables)

    def workspace(
        self, task_id: str = "task-1", cancelled: Callable[[], bool] = lambda: False, level: str = ""
    ) -> Workspace:
        """What a task is given."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return Workspace(
            root=self.root,
            component=COMPONENT,
            python=self.python,
            sandbox=ProcessSandbox(level) if level else detect_sandbox(),
            scratch=scratch,
            readable=(self.python.parents[1],),
            limits=Limits(wall_s=60, memory_bytes=2 << 30),
            progress=self.said.append,
            task_id=task_id,
            run_id="run-1",
            spend=self.usage.append,
            cancelled=cancelled,
        )

    @property
    def homes(self) -> list[Path]:
        """The folders of conversations."""
        return [path for path in (self.cache / "conversations").iterdir() if path.is_dir()]

    def job(
        self,
        round_: int = 1,
        output: str = "tests/test_shapes_openhands.py",
        workspace: Workspace | None = None,
        budget_s: float = 60.0,
    ) -> GenerationJob:
        """What a generator is asked for."""
        return GenerationJob(
            workspace=workspace or self.workspace(),
            module=COMPONENT.modules[0],
            coverage=UNCOVERED,
            coverage_threshold=80.0,
            criteria=(),
            output_path=output,
            budget_s=budget_s,
            seed=0,
            round=round_,
            rejected=(RejectedTest(name="test_x", reason="fails"),) if round_ > 1 else (),
        )

    @property
    def total(self) -> Usage:
        """What all agents took."""
        return sum(self.usage, Usage())


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def bench(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    engine_cache: Path,
    component_python: Path,
    model: ScriptedModel,
    valkey: redis.Redis,
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    """A small component under test, with fleet limits in a real Valkey."""
    assert valkey.dbsize() == 0
    for left in engine_cache.iterdir():
        if left.is_dir() and left.name != "engines":
            shutil.rmtree(left)
    monkeypatch.setenv("TTA_CACHE_DIR", str(engine_cache))
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    settings.cache_clear()
    made = Bench(tmp_path, engine_cache, component_python, model, monkeypatch)
    write(made.project, {"shapes.py": SHAPES, "tests/test_shapes.py": EXISTING})
    return made


@pytest.fixture
def processes() -> Callable[[str], list[str]]:
    """Command lines of all processes of this host that hold a text."""

    def search(text: str) -> list[str]:
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if text in command and int(process.name) != os.getpid():
                    found.append(command)
        return found

    return search
