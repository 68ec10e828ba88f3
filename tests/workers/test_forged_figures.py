"""Facts about figures that tests, or the code under test, try to make up."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest

from tta_tasks.models import Module, SuiteReport
from tta_tasks.protocols import CandidateTests, Workspace
from workers.acceptance import accept
from workers.component.probing import ProbeResult, run_probe
from workers.component.suite import module_files, run_suite
from workers.probe import referee
from workers.probe.config import ProbeConfig
from workers.sandbox import detect_sandbox

OPS = """\
def sign(n):
    if n > 0:
        return 1
    return -1


def never(n):
    total = 0
    for i in range(n):
        total += i
    return total
"""
#: What a test needs to say something to the referee, as the probe itself does.
FORGE = """\
import json, os, socket, stat, sys

def channels():
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                yield int(name)
        except OSError:
            pass

def tell(*lines):
    for channel in list(channels())[:1]:
        for line in lines:
            data = line if isinstance(line, bytes) else line.encode()
            while data:
                data = data[os.write(channel, data):]
"""
MODULE = Module(name="calc.ops", path="src/calc/ops.py")
ALL = {"covered": [1, 2, 3, 4, 7, 8, 9, 10, 11], "missing": [], "branches": 4, "missing_branches": []}
ALL["covered_branches"] = [[2, 3], [2, 4], [9, 10], [9, 11]]

Make = Callable[..., Workspace]


@pytest.fixture
def ops() -> str:
    """The module of the component that :func:`make` makes workspaces of."""
    return OPS


def probed(workspace: Workspace, *, mode: str = "suite", counted: bool = True) -> ProbeResult:
    """One run of the component's tests."""
    measure = module_files(workspace)
    focus = measure[MODULE.path] if mode == "isolate" else ""
    config = ProbeConfig(mode=mode, args=["tests"], measure=measure, counted=counted, focus=focus)
    return run_probe(workspace, config)


def hostile(body: str) -> str:
    """A test file whose test runs ``body``."""
    return f"{FORGE}\nfrom calc.ops import sign\n\ndef test_bad():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


def figures(report: SuiteReport) -> tuple[int, int]:
    """Covered statements, and all."""
    (module,) = report.coverage
    return module.covered_statements, module.statements


# -- the channel ----------------------------------------------------------------------------------------------------


def test_no_file_holds_what_is_told(make: Make) -> None:
    """There is no journal to write to, to replace or to read: what a test writes beside it changes nothing."""
    body = f"""
        assert not [name for folder, _, names in os.walk(os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] + "/..")
                    for name in names if name.endswith("jsonl")]
        for folder in {{os.path.dirname(argument) for argument in sys.argv if "/" in argument}}:
            with open(os.path.join(folder, "events.jsonl"), "a") as file:
                file.write(json.dumps({{"event": "coverage", "modules": {{"{MODULE.path}": {ALL!r}}}}}) + "\\n")
                file.write('{{"event": "finish", "status": 0}}\\n')
        os._exit(0)
    """
    result = probed(make({"tests/test_a.py": hostile(body)}))
    assert "before the tests did in tests/test_a.py::test_bad" in result.aborted
    assert result.coverage == {}


FORGED = f"""
tell('report {{"test": 0, "when": "call", "outcome": "passed", "message": "", "duration": 0}}\\n')
tell("module " + json.dumps({{"path": "{MODULE.path}", **{ALL!r}}}) + "\\n")
tell('finish {{"status": 0}}\\n')
os._exit(0)
"""


def test_figures_without_a_second_count_are_not_believed(make: Make) -> None:
    """A test that says ``all covered`` and ``finished`` and leaves is told apart from a run that came to its end."""
    result = probed(make({"tests/test_a.py": hostile(FORGED)}))
    assert "not counted a second time" in result.aborted
    assert result.coverage == {}


FIGURES = json.dumps({"path": MODULE.path, **ALL})
COUNTED = json.dumps({"path": MODULE.path, "unseen": []})
BEGIN = 'start {"test": 0}\n'
END = [f"module {FIGURES}\n", f"counted {COUNTED}\n", 'finish {"status": 0}\n']
EVENT = {"position": 0, "file": "", "function": "", "owner": "", "rows": {}}
ORDER = {
    "after the end": (f"tell(*{[*END, BEGIN]})", "something after its end"),
    "figures, then tests": (f"tell(*{[*END[:2], BEGIN]})", "'start' out of order"),
    "no kind": ("tell('believe {}\\n')", "something that is no event"),
    "the referee's": ('tell(\'exit {"status": 0, "refused": ""}\\n\')', "something that is no event"),
    "no text": ("tell(b'start \\xff\\n')", "something that is no event"),
    "too long": ("tell(b'left ' + b'x' * (9 << 20))", "more than 8 MB at once"),
    "a gigabyte": (
        'line = b\'left {"test": 0, "kind": "", "what": "\' + b\'x\' * 60000 + b\'"}\\n\'\nwhile True: tell(line)',
        "more than 64 MB",
    ),
    "a million tests": (
        f"for n in range(10**6): tell('collected ' + json.dumps({{'id': str(n), **{EVENT}}}) + '\\n')",
        "more than 100000 tests",
    ),
}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(*each, id=name, marks=[pytest.mark.slow] if name in {"a gigabyte", "a million tests"} else [])
        for name, each in ORDER.items()
    ],
)
def test_what_breaks_a_rule_ends_the_run(make: Make, body: str, says: str) -> None:
    """The referee ends the process, and the run says why and, where it is known, in which test."""
    early = says.startswith("more than 1")
    file = "tests/conftest.py" if early else "tests/test_a.py"
    text = f"{FORGE}\n{body}\n" if early else hostile(body + "\nimport time\ntime.sleep(50)")
    result = probed(make({"tests/test_b.py": "def test(): pass\n", file: text}))
    assert says in result.aborted
    assert result.coverage == {}


SHAPES = {
    "a list": "start [0]",
    "another field": 'start {"test": 0, "more": 1}',
    "no JSON": "start {",
    "nested": "start " + "[" * 100_000 + "]" * 100_000,
    "not a number": 'report {"test": 0, "when": "call", "outcome": "passed", "message": "", "duration": NaN}',
    "infinite": 'report {"test": 0, "when": "call", "outcome": "passed", "message": "", "duration": 1e999}',
    "huge": 'start {"test": ' + "9" * 10_000 + "}",
    "below zero": 'start {"test": -1}',
    "not there": 'start {"test": 7}',
    "half a character": 'interrupted {"message": "\\ud800"}',
    "another module": 'broken {"path": "/etc/passwd", "lines": 1}',
    "half of a branch": 'executed {"test": 0, "lines": [], "branches": [[1]]}',
    "a killer": 'mutant {"line": 1, "operator": "", "killers": [99]}',
}


@pytest.mark.parametrize("line", SHAPES.values(), ids=SHAPES)
def test_events_of_another_shape_end_the_run(make: Make, line: str) -> None:
    """Each is one reason in plain words; the worker neither raises nor waits."""
    path = "line"
    body = f"tell(open({path!r}).read() + '\\n')"
    result = probed(make({"tests/test_a.py": hostile(body), path: line}))
    assert result.aborted.startswith("what was told of the tests is not believed: ")
    assert result.coverage == {}


def test_only_the_measured_process_is_heard(make: Make) -> None:
    """What a fork of a test says, and what is left of it says later, is nobody's word."""
    body = """
        import time
        for later in (0, 0.3):
            if os.fork() == 0:
                os.setsid()
                time.sleep(later)
                tell('finish {"status": 0}\\n', "nonsense\\n")
                while True:
                    time.sleep(0.01)
                    tell("more\\n")
        time.sleep(0.2)
    """
    result = probed(make({"tests/test_a.py": hostile(body), "tests/test_b.py": "def test(): pass\n"}))
    assert result.aborted == ""
    assert [case.outcome for case in result.cases.values()] == ["passed", "passed"]


def test_a_fork_speaks_for_its_own_test_only(make: Make) -> None:
    """Alone, each test has a pipe to the process that collected it: what it says of others makes it fail."""
    body = """
        frame = sys._getframe()
        while "send" not in frame.f_locals:
            frame = frame.f_back
        frame.f_locals["send"](b'executed {"test": 1, "lines": [7, 8, 9, 10, 11], "branches": []}\\n')
    """
    result = probed(
        make({"tests/test_a.py": hostile(body) + "\ndef test_good(): pass\n"}), mode="isolate", counted=False
    )
    bad, good = result.cases.values()
    assert (bad.outcome, bad.message) == ("crashes", "told what no test tells")
    assert good.outcome == "passed"
    assert not good.executed.lines


def test_a_fork_that_floods_fails_alone(make: Make) -> None:
    """It is ended at its limit, and the next test runs."""
    body = """
        frame = sys._getframe()
        while "send" not in frame.f_locals:
            frame = frame.f_back
        while True:
            frame.f_locals["send"](b"x" * 1000000)
    """
    result = probed(
        make({"tests/test_a.py": hostile(body) + "\ndef test_good(): pass\n"}), mode="isolate", counted=False
    )
    assert [case.outcome for case in result.cases.values()] == ["crashes", "passed"]


def test_lone_halves_of_characters_are_told(make: Make) -> None:
    """A failure may say what is no text."""
    result = probed(
        make({"tests/test_a.py": "def test_bad():\n    raise ValueError('half: \\ud800, whole: \\U0001f600')\n"})
    )
    (case,) = result.cases.values()
    assert (result.aborted, case.outcome) == ("", "failed")
    assert "half: \\ud800, whole: \U0001f600" in case.message


# -- the referee ----------------------------------------------------------------------------------------------------


def test_a_test_that_kills_the_referee(make: Make) -> None:
    """Nothing it said before is believed, and what it left ends."""
    report = run_suite(
        make({"tests/test_a.py": hostile("import time\ntime.sleep(1)\nos.kill(os.getppid(), 9)\ntime.sleep(50)")})
    )
    assert report.aborted == "killed by signal 9 (SIGKILL) in tests/test_a.py::test_bad"
    assert report.coverage == ()


def test_the_referee_cannot_be_looked_into(make: Make) -> None:
    """Neither traced, nor its memory or descriptors taken, by a process of the same user."""
    if detect_sandbox().level in {"landlock", "process-group"}:
        pytest.skip("root, whom nothing keeps from it, stays root at this level")
    body = """
        import ctypes
        referee, libc = os.getppid(), ctypes.CDLL(None, use_errno=True)
        assert libc.ptrace(16, referee, 0, 0) == -1  # PTRACE_ATTACH
        assert libc.ptrace(0x4206, referee, 0, 0) == -1  # PTRACE_SEIZE
        for path, how in ((f"/proc/{referee}/mem", os.O_RDONLY), (f"/proc/{referee}/fd/1", os.O_WRONLY)):
            try:
                os.open(path, how)
            except PermissionError:
                continue
            raise AssertionError(path)
        pidfd = os.pidfd_open(referee)
        assert libc.syscall(438, pidfd, 1, 0) == -1  # pidfd_getfd
    """
    report = run_suite(make({"tests/test_a.py": hostile(body)}))
    assert (report.passed, report.failures) == (1, ())


def test_a_channel_that_is_closed_ends_the_run(make: Make) -> None:
    """A test that closes all it has is told apart from one that passes; nothing goes to what is opened instead."""
    body = "os.closerange(3, 5000)\nfiles = [open('/tmp/taken%d' % n, 'w') for n in range(50)]"
    report = run_suite(make({"tests/test_a.py": hostile(body)}))
    assert "tests/test_a.py::test_bad" in report.aborted


@pytest.mark.parametrize("code", ["os.close(next(channels()))", "os.set_blocking(next(channels()), False)"])
def test_a_channel_that_is_only_disturbed_goes_on(make: Make, code: str) -> None:
    """Descriptors are closed, and made non-blocking, by programs that mean no harm."""
    report = run_suite(make({"tests/test_a.py": hostile(code)}))
    assert (report.passed, report.aborted) == (1, "")


def test_a_shadow_of_the_probe_is_not_run(make: Make) -> None:
    """A repository may have a module of the probe's name."""
    shadow = "raise SystemExit('mine')\n"
    report = run_suite(
        make(
            {
                "src/tta_probe/__init__.py": shadow,
                "tta_probe/__init__.py": shadow,
                "tests/test_a.py": "def test(): pass\n",
            }
        )
    )
    assert (report.passed, report.aborted) == (1, "")


def test_the_rules_of_a_session() -> None:
    """In order, bounded, nothing after the end."""
    rules = referee.Rules()
    assert not any(rules.broken_by(line) for line in (b"collecting {}", b"collected {}", b"start {}", b"report {}"))
    assert rules.broken_by(b"collected {}") == "'collected' out of order"
    assert rules.broken_by(b"module {}") == rules.broken_by(b"finish {}") == ""
    assert rules.broken_by(b"finish {}") == "something after its end"


# -- two counts -----------------------------------------------------------------------------------------------------

#: Makes coverage.py's data say that every line of the module was executed, and every branch taken.
LIE = """
import coverage.sqldata as _data

def _lines(self, filename, _plain=_data.CoverageData.lines):
    return list(range(1, 12)) if filename.endswith("ops.py") else _plain(self, filename)

def _arcs(self, filename, _plain=_data.CoverageData.arcs):
    pairs = [(1, 7), (-1, 2), (2, 3), (2, 4), (3, -1), (4, -1), (7, -1)]
    pairs += [(-7, 8), (8, 9), (9, 10), (9, 11), (10, 9), (11, -7)]
    return pairs if filename.endswith("ops.py") else _plain(self, filename)

_data.CoverageData.lines, _data.CoverageData.arcs = _lines, _arcs
"""
TEST = "from calc.ops import sign\n\n\ndef test_sign():\n    assert sign(1) == 1\n"


def test_a_module_that_makes_coverage_lie_gets_no_more(make: Make) -> None:
    """Lines that only coverage.py has seen are missing, and said to be disputed."""
    workspace = make({"src/calc/__init__.py": LIE, "tests/test_a.py": TEST})
    assert figures(run_suite(workspace)) == (9, 9)  # one count alone is fooled
    report = run_suite(workspace, counted=True)
    (module,) = report.coverage
    assert module.disputed_lines == (4, 8, 10, 11)
    assert set(module.disputed_lines) <= set(module.missing_lines)
    assert figures(report) == (5, 9)
    assert module.covered_branches == 1
    assert report.green


def test_a_test_that_makes_coverage_lie_is_turned_down(make: Make) -> None:
    """The code says why, and nothing of the file is kept."""
    workspace = make({})
    result = accept(
        workspace,
        MODULE,
        [CandidateTests("tests/test_liar.py", LIE + TEST)],
        baseline=run_suite(workspace, paths=[]),
        mutation_budget_s=0,
    )
    assert [(each.name, each.reason) for each in result.rejected] == [("tests/test_liar.py", "disputed")]
    assert "executed that were not: 4, 8, 10, 11" in result.rejected[0].detail
    assert (result.files, result.coverage_after) == ({}, result.coverage_before)


BLIND = {
    "trace": "import sys\n    sys.settrace(None)",
    "profile": "import sys\n    sys.setprofile(None)",
    "monitoring": "import sys\n    for n in range(6):\n        getattr(sys, 'monitoring', None) and "
    "sys.monitoring.get_tool(n) and sys.monitoring.free_tool_id(n)",
    "stopped": "import coverage\n    coverage.Coverage.current().stop()",
}


@pytest.mark.parametrize("code", BLIND.values(), ids=BLIND)
def test_blinding_coverage_gains_nothing(make: Make, code: str) -> None:
    """Tests that end the measurement have fewer lines, or no figures; never more, and no traceback."""
    tests = f"from calc.ops import sign, never\n\n\ndef test_blind():\n    {code}\n    assert never(3) == 3\n"
    report = run_suite(make({"tests/test_a.py": tests}), counted=True)
    assert not report.coverage or figures(report)[0] <= 6


def test_tests_that_fail_only_when_counted_do_not_fail(make: Make) -> None:
    """The component's tests may look at its bytecode: their outcome is that of the plain code, and the figures stay."""
    tests = f"{TEST}\n\ndef test_code():\n    assert sign.__code__.co_names == ()\n"
    report = run_suite(make({"tests/test_a.py": tests}), counted=True)
    assert report.green
    assert figures(report) == (5 - 1, 9)


QUIRKS = '''\
"""Docstring."""
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = {
    "a": lambda x: (
        x + 1
    ),
    "b": 2,
}; OTHER = 1


@dataclass(frozen=True)
class Point:
    """A point."""

    x: int
    y: int = 0

    @property
    def sum(self) -> int:
        """Docstring."""
        return (
            self.x
            + self.y
        )


class Shape(Protocol):
    def area(self) -> float: ...


@functools.lru_cache(
    maxsize=None,
)
def fact(n: int) -> int:
    x: int
    if n < 2: return 1
    x = (
        n *
        fact(n - 1)
    )
    return x


def kinds(value: object) -> str:
    try:
        with open(__file__) as file: first = file.read(1)
        while True:
            if value: break
            else: value = first; continue
    except OSError: return "none"
    except (ValueError,
            TypeError): return "never"
    else:
        pass
    finally:
        "nothing"
    global OTHER
    OTHER += 1; OTHER -= 1
    return f"""{
        value
    }"""


def excluded() -> None:  # pragma: no cover
    raise AssertionError


async def later() -> list[int]:
    return [
        i
        for i in range(3)
        if i
    ]


def gen():
    for i in range(2):
        yield i
    else:
        yield (
            TABLE["a"](2)
        )
    return


if __name__ == "__main__":
    print(
        kinds(0)
    )
    raise SystemExit(0)
'''
QUIRKY = """\
import asyncio, importlib, os, pathlib, pickle, runpy, subprocess, sys, threading
import pytest
from calc import ops

def test_all():
    assert (ops.Point(1).sum, ops.fact(5), ops.kinds(0), list(ops.gen())) == (1, 120, '\"', [0, 1, 3])
    assert asyncio.run(ops.later()) == [1, 2]

def test_thread():
    thread = threading.Thread(target=ops.kinds, args=(1,)); thread.start(); thread.join()

def test_main():
    for run, what in (runpy.run_path, ops.__file__), (runpy.run_module, "calc.ops"):
        with pytest.raises(SystemExit):
            run(what, run_name="__main__")

def test_reload():
    importlib.reload(ops)

def test_by_path():
    spec = importlib.util.spec_from_file_location("other", ops.__file__)
    module = importlib.util.module_from_spec(spec)
    sys.modules["other"] = module
    spec.loader.exec_module(module)
    assert module.fact(3) == 6
    del sys.modules["other"]

def test_subprocess():
    subprocess.run([sys.executable, "-c", "import calc.ops as o; o.kinds(1)"], check=True)
    if os.fork() == 0:
        ops.kinds(2)
        os._exit(0)

def test_pickled():
    assert pickle.loads(pickle.dumps(ops.Point(1, 2))).sum == 3

def test_names():
    assert not [name for name in vars(ops) if "tta" in name]
"""


def test_quirks_are_no_lies(make: Make) -> None:
    """Both counts agree on whatever Python can do to a line, and counting changes no figure."""
    conftest = "import calc.ops\npytest_plugins = ['calc.plugin']\n"
    plugin = "import pytest\n\n@pytest.fixture\ndef thing():\n    value = 1\n    assert value\n    return value\n"
    use = "\ndef test_plugin(thing):\n    assert thing\n"
    workspace = make(
        {
            "src/calc/ops.py": QUIRKS,
            "src/calc/plugin.py": plugin,
            "conftest.py": conftest,
            "tests/test_a.py": QUIRKY + use,
        }
    )
    modules = (MODULE, Module(name="calc.plugin", path="src/calc/plugin.py"))
    object.__setattr__(workspace, "component", workspace.component.model_copy(update={"modules": modules}))
    plain, counted = run_suite(workspace), run_suite(workspace, counted=True)
    assert (plain.failures, counted.failures, counted.passed) == ((), (), 9)
    assert counted.coverage == plain.coverage
    assert counted.coverage[0].covered_statements == 38
