"""Writes the missing tests of one module: engines propose, acceptance decides, what is kept is a patch."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tta_tasks import patches, plugins, tracing
from tta_tasks.errors import Cancelled, EngineFailed, ModelUnavailable, TtaError, UnknownEngine
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import (
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    ModuleCoverage,
    RejectedTest,
    Status,
    SuiteReport,
)
from tta_tasks.protocols import CandidateTests, GenerationJob, Generator, Workspace
from workers.acceptance import AcceptanceResult, accept
from workers.acceptance.formatting import format_tests, merge_test_files
from workers.acceptance.placement import place_tests
from workers.component.copies import fresh_copy
from workers.component.suite import run_suite
from workers.stages.context import Context

#: How often one engine is asked, and the share of its time that the first rounds get.
MOST_ROUNDS = 3
FIRST_SHARE = 0.6
#: Less time than this, in seconds, is not worth another round.
LEAST_S = 1.0
#: Name of an engine -> what its files are called; the others' bear its name.
LABELS = {"characterize": "characterization"}
#: The order in which ``auto`` asks engines; the others follow. The next one is asked where the threshold is not met.
ORDER = ("openhands", "characterize")
#: Does the work when no model can be used, even where agents were insisted on.
FALLBACK = "characterize"


def run(request: GenerationRequest, context: Context) -> GenerationResult:
    """Generate tests until the threshold is met, or engines, rounds and time are used up.

    Raises:
        UnknownEngine: The engine is not installed, or cannot work here.
        TransientError: An engine may work later.
        Cancelled: The run was cancelled.
    """
    engines = _engines(request.engine)
    with context.workspace(request) as workspace:
        search = _Search(request, workspace, _baseline(request, context, workspace))
        for engine in engines:
            search.ask(engine)
        if not search.contributors and any(isinstance(error, ModelUnavailable) for error in search.errors):
            search.ask(plugins.load(plugins.GENERATORS, FALLBACK)())
        _stop_if_cancelled(context)
        return _result(search, context)


def _engines(name: str) -> list[Generator]:
    """The engines to ask, in order.

    Raises:
        UnknownEngine: None of them can work here.
    """
    names = plugins.names(plugins.GENERATORS) if name == "auto" else (name,)
    loaded: list[Generator] = [plugins.load(plugins.GENERATORS, each)() for each in sorted(names, key=_rank)]
    reasons = {engine.name: engine.available() for engine in loaded}
    able = [engine for engine in loaded if not reasons[engine.name]]
    if not able:
        raise UnknownEngine(
            "No generator can work on this host: "
            + ("; ".join(f"{each}: {why}" for each, why in reasons.items()) or "none is installed")
            + "."
        )
    return able


def _rank(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def _baseline(request: GenerationRequest, context: Context, workspace: Workspace) -> SuiteReport:
    """The component's own suite, with coverage of the module: from an earlier task, or measured here."""
    baselines = (context.ledger.baselines.get(need, request.module.path) for need in request.needs)
    suite = next((found for found in baselines if found is not None), None)
    if suite is None:
        context.progress("running the tests")
        with fresh_copy(workspace) as work:
            suite = run_suite(work)
        _stop_if_cancelled(context)
    if not any(each.path == request.module.path for each in suite.coverage):
        # It did not come to its end: what was covered is not known, so nothing is.
        with fresh_copy(workspace) as work:
            empty = run_suite(work, paths=[])
        if not any(each.path == request.module.path for each in empty.coverage):
            raise EngineFailed(
                f"What is covered of {request.module.path} cannot be measured: "
                f"{empty.aborted or 'the file is gone once it was imported'}.",
                f"Does `python -c 'import {request.module.name}'` leave the file as it is?",
            )
        suite = suite.model_copy(update={"coverage": empty.coverage})
    return suite


def _stop_if_cancelled(context: Context) -> None:
    if context.cancelled():  # what was cut short must not pass for a verdict
        raise Cancelled("The run was cancelled.")


@dataclass
class _Search:
    """What engines have come up with so far."""

    request: GenerationRequest
    #: Nothing runs there; each round has a copy.
    pristine: Workspace
    baseline: SuiteReport
    best: AcceptanceResult | None = None
    #: Engines that proposed something.
    contributors: list[str] = field(default_factory=list)
    rejected: dict[tuple[str, str], RejectedTest] = field(default_factory=dict)
    errors: list[TtaError] = field(default_factory=list)
    rounds: int = 0
    _criteria: dict[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def before(self) -> ModuleCoverage:
        return next(each for each in self.baseline.coverage if each.path == self.request.module.path)

    @property
    def coverage(self) -> ModuleCoverage:
        return self.best.coverage_after if self.best else self.before

    @property
    def met(self) -> bool:
        return self.coverage.percent >= self.request.coverage_threshold

    def ask(self, engine: Generator) -> None:
        """Have ``engine`` propose tests, round after round, as long as that helps."""
        left = max(self.request.budget_s, getattr(engine, "budget_s", 0.0))
        for round_ in range(1, MOST_ROUNDS + 1):
            if self.met or (left < LEAST_S and round_ > 1) or self.pristine.cancelled():
                return
            share = left if round_ == MOST_ROUNDS else left * FIRST_SHARE
            started, reached = time.monotonic(), self.coverage.percent
            with fresh_copy(self.pristine) as work:
                candidates = self._proposed(engine, work, round_, share)
            left -= time.monotonic() - started
            if not candidates:
                return
            self._judge(engine, candidates)
            if round_ > 1 and self.coverage.percent <= reached:
                return

    @tracing.step("generation")
    def _proposed(
        self, engine: Generator, workspace: Workspace, round_: int, budget_s: float
    ) -> Sequence[CandidateTests]:
        workspace.progress(f"{engine.name} looks for tests, round {round_}")
        job = GenerationJob(
            workspace=workspace,
            module=self.request.module,
            coverage=self.coverage,
            coverage_threshold=self.request.coverage_threshold,
            criteria=self.request.criteria,
            output_path=self._path(engine),
            budget_s=budget_s,
            seed=self.request.seed,
            round=round_,
            rejected=tuple(self.rejected.values()),
        )
        try:
            return engine.generate(job)
        except (EngineFailed, ModelUnavailable) as error:
            self.errors.append(error)
            return ()

    def _path(self, engine: Generator) -> str:
        kept = tuple(self.best.files) if self.best else ()
        wanted = self.request.output_path
        tree = ForeignTree(self.pristine.root)
        if wanted is not None and wanted not in kept and not tree.exists(self.pristine.project / wanted):
            return wanted
        label = LABELS.get(engine.name, engine.name)
        return place_tests(tree, self.request.component, self.request.module, label, kept)

    def _judge(self, engine: Generator, candidates: Sequence[CandidateTests]) -> None:
        """Judge what was kept so far and what is new together, so that both are cut down together."""
        self.rounds += 1
        self.pristine.progress(f"judging the tests of {engine.name}")
        self._criteria |= {candidate.path: candidate.criteria for candidate in candidates}
        acceptance = accept(
            self.pristine,
            self.request.module,
            self._with_kept(candidates),
            baseline=self.baseline,
            seed=self.request.seed,
        )
        self.rejected |= {(each.name, each.reason): each for each in acceptance.rejected}
        contributor = f"{engine.name} {engine.version}"
        if contributor not in self.contributors:
            self.contributors.append(contributor)
        if self.best is None or acceptance.coverage_after.percent >= self.best.coverage_after.percent:
            self.best = acceptance

    def _with_kept(self, candidates: Sequence[CandidateTests]) -> list[CandidateTests]:
        """What was kept so far and what is new; in one file where the same engine made both."""
        files = dict(self.best.files) if self.best else {}
        for new in candidates:
            older = next((path for path in files if _stem(path) == _stem(new.path)), None)
            united = merge_test_files(files[older], new.source) if older is not None else None
            if older is not None and united is not None:
                files[older] = united
                self._criteria[older] = {**self._criteria.get(older, {}), **new.criteria}
            else:
                files[new.path] = new.source
        return [CandidateTests(path, source, self._criteria.get(path, {})) for path, source in files.items()]


def _result(search: _Search, context: Context) -> GenerationResult:
    request, best = search.request, search.best
    files = format_tests(search.pristine, best.files) if best and best.files else {}
    root = PurePosixPath(request.component.root)
    placed = {(root / path).as_posix(): source for path, source in files.items()}
    failed = bool(search.errors) and not search.contributors
    return GenerationResult(
        status=Status.FAILED if failed else Status.COMPLETED,
        error=_error(search.errors[0]) if failed else None,
        module=request.module,
        engines=tuple(search.contributors),
        coverage_before=search.before,
        coverage_after=search.coverage,
        accepted=best.accepted if best else (),
        rejected=tuple(search.rejected.values()),
        files=tuple(placed),
        patch=context.store.put(_patch(placed)) if placed else None,
        rounds=search.rounds,
        threshold_met=search.met,
        usage=context.usage,
        notes=() if failed else tuple(f"{error.message}" for error in search.errors),
    )


def _stem(path: str) -> str:
    """A test file's path without the number that sets it apart from the one of an earlier round."""
    return re.sub(r"_\d+(?=(_test)?\.py$)", "", path)


def _error(error: TtaError) -> ErrorInfo:
    return ErrorInfo(type=type(error).__name__, message=error.message, hint=error.hint)


def _patch(files: Mapping[str, str]) -> bytes:
    """A patch that adds ``files``."""
    return patches.between({}, {name: patches.File(source.encode()) for name, source in files.items()})
