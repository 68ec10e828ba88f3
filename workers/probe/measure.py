"""Line and branch coverage of the component's modules."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import coverage
from coverage.exceptions import CoverageException
from coverage.files import GlobMatcher, prep_patterns
from coverage.python import PythonFileReporter
from coverage.results import analysis_from_file_reporter

#: What a repository may say about its measurement; the rest is ours.
_HONOURED = ("run:omit", "report:omit", "report:exclude_lines", "report:exclude_also", "report:partial_branches")
_QUIET = ("no-sysmon", "no-ctracer", "no-data-collected", "module-not-measured", "module-not-imported")


def _repository_options() -> dict[str, Any]:
    try:
        theirs = coverage.Coverage(config_file=True)
        return {name: value for name in _HONOURED if (value := theirs.get_option(name))}
    except CoverageException:  # a broken configuration is theirs to mend; the measurement goes on without
        return {}


def open_coverage(paths: list[str], options: dict[str, Any]) -> coverage.Coverage:
    """A measurement of ``paths``, in memory."""
    measurement = coverage.Coverage(
        config_file=False, data_file=None, branch=True, include=paths, messages=False, check_preimported=False
    )
    for name, value in {**options, "run:disable_warnings": list(_QUIET)}.items():
        measurement.set_option(name, value)
    return measurement


class Measurement:
    """Coverage of some modules while something runs."""

    def __init__(self, modules: dict[str, str]) -> None:
        self.modules = {relative: os.path.realpath(path) for relative, path in modules.items()}
        self.options = _repository_options()
        self.coverage = open_coverage(list(self.modules.values()), self.options)

    def start(self) -> None:
        """From here on."""
        self.coverage.start()

    def stop(self) -> None:
        """Until here."""
        self.coverage.stop()

    def switch(self, context: str) -> None:
        """What runs now belongs to ``context``."""
        if coverage.Coverage.current() is self.coverage:
            self.coverage.switch_context(context)

    def report(self, tests: Mapping[str, int] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and fields of the events that tell what was measured, module by module.

        Args:
            tests: Context -> number of the test; ``None`` where it is not to be told which test executed what.
        """
        for relative, path in self.modules.items():
            try:
                figures = self._module(path)
            except CoverageException:
                yield "broken", {"path": relative, "lines": _written_lines(path)}
                continue
            yield "module", {"path": relative, **figures}
            for test, lines in sorted(self._by_test(path, tests or {}).items()):
                yield "context", {"path": relative, "test": test, "lines": sorted(lines)}

    def _omitted(self, path: str) -> bool:
        patterns = [*self.options.get("run:omit", ()), *self.options.get("report:omit", ())]
        return bool(patterns) and GlobMatcher(prep_patterns(patterns), "omit").match(path)

    def _module(self, path: str) -> dict[str, Any]:
        if self._omitted(path):
            return {"covered": [], "missing": [], "branches": 0, "covered_branches": [], "missing_branches": []}
        data = self.coverage.get_data()
        data.set_query_contexts(None)
        analysis = analysis_from_file_reporter(data, 0, PythonFileReporter(path, self.coverage), path)
        return {
            "covered": sorted(analysis.statements - analysis.missing),
            "missing": sorted(analysis.missing),
            "branches": analysis.numbers.n_branches,
            "covered_branches": _pairs(analysis.executed_branch_arcs()),
            "missing_branches": _pairs(analysis.missing_branch_arcs()),
        }

    def _by_test(self, path: str, tests: Mapping[str, int]) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for line, names in self.coverage.get_data().contexts_by_lineno(path).items() if tests else ():
            for test in (tests[name] for name in names if name in tests):
                found.setdefault(test, set()).add(line)
        return found


class Focus:
    """What single tests execute of one module; parsed once, asked in many forks."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.path = os.path.realpath(path)
        self.options = options
        self.reporter = PythonFileReporter(self.path, open_coverage([self.path], options))
        self.known = True
        try:
            self.reporter.arcs()
            self.reporter.exit_counts()
        except CoverageException:
            self.known = False

    def begin(self) -> coverage.Coverage:
        """Start to measure."""
        measurement = open_coverage([self.path], self.options)
        measurement.start()
        return measurement

    def executed(self, measurement: coverage.Coverage) -> dict[str, Any]:
        """Lines and branches executed since :meth:`begin`."""
        measurement.stop()
        return self.analyse(measurement)

    def analyse(self, measurement: coverage.Coverage) -> dict[str, Any]:
        """Lines and branches of the module in a finished measurement."""
        if not self.known:
            return {"lines": [], "branches": []}
        analysis = analysis_from_file_reporter(measurement.get_data(), 0, self.reporter, self.path)
        return {"lines": sorted(analysis.executed), "branches": _pairs(analysis.executed_branch_arcs())}


def _pairs(arcs: dict[int, list[int]]) -> list[tuple[int, int]]:
    return sorted((start, end) for start, ends in arcs.items() for end in ends)


def _written_lines(path: str) -> int:
    with open(path, "rb") as file:  # noqa: PTH123
        return max(1, sum(1 for line in file if line.strip() and not line.lstrip().startswith(b"#")))
