"""Facts about running a component's own tests, however they behave."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tta_tasks.models import SuiteReport
from tta_tasks.protocols import Workspace
from workers.component.probing import RunConditions
from workers.component.suite import observe_suite, run_suite

OPS = """\
def sign(n):
    if n > 0:
        return 1
    return -1


def unused():  # pragma: no cover
    return 0
"""

Make = Callable[..., Workspace]


@pytest.fixture
def ops() -> str:
    """The module of the component that :func:`make` makes workspaces of."""
    return OPS


def test_lines_and_branches_of_every_module_are_measured(make: Make) -> None:
    """Covered, partly covered and never imported modules each have their figures; exclusions hold."""
    report = run_suite(
        make(
            {
                "tests/test_ops.py": "from calc.ops import sign\n\ndef test_sign():\n    assert sign(2) == 1\n",
                "src/calc/never.py": "A = 1\n\n\ndef f():\n    return A\n",
            }
        )
    )
    assert (report.passed, report.green) == (1, True)
    never, ops = report.coverage
    assert (never.path, never.statements, never.covered_statements) == ("src/calc/never.py", 3, 0)
    assert (ops.statements, ops.covered_statements, ops.branches, ops.covered_branches) == (4, 3, 2, 1)
    assert (ops.missing_lines, ops.missing_branches) == ((4,), ((2, 4),))


def test_a_module_that_does_not_parse_leaves_the_others_measured(make: Make) -> None:
    """A syntax error counts as nothing covered there, and only there."""
    report = run_suite(
        make(
            {
                "tests/test_ops.py": "from calc.ops import sign\n\ndef test_sign():\n    assert sign(2) == 1\n",
                "src/calc/broken.py": "def f(:\n    pass\n",
            }
        )
    )
    broken, ops = report.coverage
    assert broken.percent == 0
    assert broken.statements > 0
    assert ops.covered_statements == 3


@pytest.mark.parametrize("files", [{}, {"tests/notes.txt": "none yet"}], ids=["no folder", "empty folder"])
def test_no_tests_is_green(make: Make, files: dict[str, str]) -> None:
    """A component without tests has not failed; its coverage is zero."""
    report = run_suite(make(files))
    assert report.green
    assert (report.total, report.aborted) == (0, "")
    assert [module.percent for module in report.coverage] == [0]


def test_repository_options_hold_less_what_disturbs(make: Make) -> None:
    """Its own options select tests; coverage, parallelism, ``-x`` and thresholds of plugins do not bite."""
    report = run_suite(
        make(
            {
                "pyproject.toml": "[tool.pytest.ini_options]\n"
                "addopts = \"--cov=calc --cov-fail-under=99 -n auto --reruns 3 -x -k 'not slow'\"\n"
                'filterwarnings = ["error"]\n',
                "tests/test_ops.py": "def test_a():\n    assert 0\n\ndef test_b():\n    assert 0\n\n"
                "def test_slow():\n    assert 0\n\ndef test_c():\n    assert 1\n",
            }
        )
    )
    assert (report.passed, report.failed, report.aborted) == (1, 2, "")


def test_coverage_configuration_of_the_repository_holds(make: Make) -> None:
    """Excluded lines and omitted modules are not counted."""
    report = run_suite(
        make(
            {
                "pyproject.toml": '[tool.coverage.run]\nomit = ["*/omitted.py"]\n'
                '[tool.coverage.report]\nexclude_also = ["return -1"]\n',
                "src/calc/omitted.py": "A = 1\n",
            }
        )
    )
    omitted, ops = report.coverage
    assert (omitted.statements, ops.statements) == (0, 3)


def test_failures_are_told(make: Make) -> None:
    """Failures, faulty fixtures and files that cannot be imported are counted apart, each with its reason."""
    report = run_suite(
        make(
            {
                "tests/test_import.py": "import no_such_thing\n",
                "tests/test_mixed.py": "import pytest\n\n@pytest.fixture\ndef bad():\n    raise OSError('no fixture')\n"
                "\ndef test_fixture(bad):\n    pass\n\ndef test_wrong():\n    assert 1 + 1 == 3\n\n"
                "def test_right():\n    pass\n\n@pytest.mark.skip\ndef test_later():\n    pass\n",
            }
        )
    )
    assert (report.passed, report.failed, report.errors, report.skipped) == (1, 1, 2, 1)
    messages = {failure.id: failure.message for failure in report.failures}
    assert "no_such_thing" in messages["tests/test_import.py"]
    assert "no fixture" in messages["tests/test_mixed.py::test_fixture"]
    assert "assert (1 + 1) == 3" in messages["tests/test_mixed.py::test_wrong"]
    assert not report.green


def test_messages_and_their_number_are_bounded(make: Make) -> None:
    """A thousand loud failures still make a small report."""
    report = run_suite(
        make(
            {
                "tests/test_many.py": "import pytest\n\n@pytest.mark.parametrize('n', range(200))\n"
                "def test_many(n):\n    assert not 'x' * 9000\n"
            }
        )
    )
    assert report.failed == 200
    assert len(report.failures) == 50
    assert len(report.model_dump_json()) < 200_000


HOSTILE = {
    "exits": ("import os\n    os._exit(0)", "status 0 before the tests did in tests/test_b.py::test_bad"),
    "kills itself": ("import os\n    os.kill(os.getpid(), 9)", "SIGKILL) in tests/test_b.py::test_bad"),
    "segfaults": ("import ctypes\n    ctypes.string_at(0)", "SIGSEGV) in tests/test_b.py::test_bad"),
    "ends the session": ("pytest.exit('enough')", "interrupted in tests/test_b.py::test_bad: Exit: enough"),
    "interrupts": ("raise KeyboardInterrupt", "interrupted in tests/test_b.py::test_bad: KeyboardInterrupt"),
}


@pytest.mark.parametrize(("code", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_test_that_takes_the_session_down(make: Make, code: str, says: str) -> None:
    """The report says which test did it and how, and keeps what was known until then."""
    report = run_suite(make(_around(code)))
    assert says in report.aborted
    assert report.passed == 1
    assert not report.green


def test_a_test_that_kills_its_process_group(make: Make) -> None:
    """The worker outlives it, and the report says what happened."""
    report = run_suite(make(_around("import os\n    os.killpg(0, 9)")))
    assert "tests/test_b.py::test_bad" in report.aborted
    assert report.passed == 1


def test_a_test_that_hangs(make: Make) -> None:
    """The suite ends at its limit and names the test."""
    report = run_suite(make(_around("import time\n    time.sleep(600)"), wall_s=3))
    assert report.aborted == "timed out after 3 s in tests/test_b.py::test_bad"


TOLERATED = {
    "prints a lot": "print('x' * 50_000_000)",
    "forks and goes on": "import os\n    os.fork()",
    "leaves a process": "import subprocess\n    subprocess.Popen(['sleep', '600'])",
    "leaves another folder": "import os\n    os.chdir('/')",
    "closes descriptors": "import os\n    os.closerange(50, 200)",
}


@pytest.mark.parametrize("code", TOLERATED.values(), ids=TOLERATED)
def test_a_test_that_only_misbehaves(make: Make, code: str) -> None:
    """Every test is counted once, and nothing is aborted."""
    report = run_suite(make(_around(code)))
    assert (report.passed, report.aborted) == (3, "")
    assert report.coverage


def test_a_test_that_eats_memory_fails_alone(make: Make) -> None:
    """The limit turns it into a failure of that test; the others count."""
    workspace = make(_around("x = bytearray(64 << 30)"))
    report = run_suite(workspace)
    assert (report.passed, report.failed, report.aborted) == (2, 1, "")
    assert "MemoryError" in report.failures[0].message


def test_wrong_configuration_is_told(make: Make) -> None:
    """Options that pytest does not know abort the run with pytest's own words."""
    report = run_suite(make({"pytest.ini": "[pytest]\naddopts = --no-such-option\n", "tests/test_a.py": ""}))
    assert report.aborted.startswith("pytest could not run the tests: ")
    assert "--no-such-option" in report.aborted


def test_random_order_is_reproducible(make: Make) -> None:
    """A seed gives one order, another seed another, and none the order of the files."""
    workspace = make({f"tests/test_{name}.py": "\n".join(f"def test_{i}(): pass" for i in range(5)) for name in "abc"})

    def order(seed: int | None) -> list[str]:
        return list(observe_suite(workspace, coverage=False, conditions=RunConditions(seed=seed)).cases)

    plain = order(None)
    assert plain == sorted(plain)
    assert order(1) == order(1) != plain
    assert sorted(order(2)) == plain


def test_contexts_tell_which_test_ran_what(make: Make) -> None:
    """Each test's lines are told apart, rows of a parametrised one too."""
    run = observe_suite(
        make(
            {
                "tests/test_ops.py": "import pytest\nfrom calc.ops import sign\n\n"
                "@pytest.mark.parametrize('n', [1, -1])\ndef test_sign(n):\n    assert sign(n) == n\n"
            }
        ),
        contexts=True,
    )
    lines = run.contexts["src/calc/ops.py"]
    assert lines["tests/test_ops.py::test_sign[1]"] == {2, 3}
    assert lines["tests/test_ops.py::test_sign[-1]"] == {2, 4}


def test_nothing_is_left_in_the_tree_or_beside_it(make: Make) -> None:
    """The tree and the scratch folder are as they were."""
    workspace = make({"tests/test_ops.py": "from calc.ops import sign\n\ndef test(): assert sign(1)\n"})
    before = sorted(workspace.root.rglob("*"))
    assert run_suite(workspace).green
    assert sorted(workspace.root.rglob("*")) == before
    assert not list(workspace.scratch.iterdir())


def test_the_report_survives_the_queue(make: Make) -> None:
    """A report goes through JSON unchanged."""
    report = run_suite(make({"tests/test_ops.py": "from calc.ops import sign\n\ndef test(): assert sign(1)\n"}))
    assert SuiteReport.model_validate_json(report.model_dump_json()) == report


def _around(code: str) -> dict[str, str]:
    return {
        "tests/test_a.py": "def test_before():\n    pass\n",
        "tests/test_b.py": f"import pytest\n\ndef test_bad():\n    {code}\n",
        "tests/test_c.py": "def test_after():\n    pass\n",
    }
