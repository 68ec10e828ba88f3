"""Line and branch coverage of the component's modules."""

from __future__ import annotations

import os
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

    def report(self, *, contexts: bool) -> dict[str, dict[str, Any]]:
        """Module -> its figures; a module that does not parse has ``{"broken": number of its lines}``."""
        return {relative: self._module(path, contexts=contexts) for relative, path in self.modules.items()}

    def _omitted(self, path: str) -> bool:
        patterns = [*self.options.get("run:omit", ()), *self.options.get("report:omit", ())]
        return bool(patterns) and GlobMatcher(prep_patterns(patterns), "omit").match(path)

    def _module(self, path: str, *, contexts: bool) -> dict[str, Any]:
        if self._omitted(path):
            return {"statements": 0, "covered_statements": 0, "branches": 0, "covered_branches": 0}
        data = self.coverage.get_data()
        data.set_query_contexts(None)
        try:
            analysis = analysis_from_file_reporter(data, 0, PythonFileReporter(path, self.coverage), path)
        except CoverageException:
            return {"broken": _written_lines(path)}
        numbers = analysis.numbers
        figures: dict[str, Any] = {
            "statements": numbers.n_statements,
            "covered_statements": numbers.n_executed,
            "branches": numbers.n_branches,
            "covered_branches": numbers.n_executed_branches,
            "missing_lines": sorted(analysis.missing),
            "missing_branches": _pairs(analysis.missing_branch_arcs()),
        }
        if contexts:
            figures["contexts"] = {
                str(line): [name for name in names if name] for line, names in data.contexts_by_lineno(path).items()
            }
        return figures


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
