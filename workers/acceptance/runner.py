"""Candidate files on the tree, run in every way that matters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from tta_tasks.models import Module
from tta_tasks.protocols import Workspace
from workers.acceptance.tree_guard import TreeGuard
from workers.component import paths
from workers.component.probing import (
    DEFAULT_CONDITIONS,
    CollectedTest,
    MutantRun,
    ProbeResult,
    RunConditions,
    run_probe,
)
from workers.probe.config import Mutation, ProbeConfig

#: Seconds a single generated test may take.
CASE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class CandidateRun:
    """One run of the candidates."""

    probed: ProbeResult
    #: Files other than the candidates that were changed; they are back as they were.
    changed: tuple[str, ...]


class TestRunner:
    """Runs candidate files in a guarded tree.

    Args:
        workspace: Where.
        module: What they test.
        guard: Of the workspace's tree.
    """

    def __init__(self, workspace: Workspace, module: Module, guard: TreeGuard) -> None:
        self.workspace = workspace
        self.module = module
        self.guard = guard
        self._file = cache(self._below_project)

    @property
    def module_file(self) -> Path:
        """The module under test."""
        return self.workspace.project / self.module.path

    def alone(self, files: Mapping[str, str]) -> CandidateRun:
        """Each test in a process of its own, watched for what it leaves and what it executes."""
        config = ProbeConfig(
            mode="isolate",
            args=sorted(files),
            measure=self._measured(),
            focus=str(self.module_file),
            modules=[module.name for module in self.workspace.component.modules],
            watch=[str(self.workspace.root)],
            case_timeout_s=CASE_TIMEOUT_S,
        )
        return self._run(files, config)

    def together(
        self,
        files: Mapping[str, str],
        conditions: RunConditions,
        without: Collection[str],
        suite_paths: Collection[str] = (),
        *,
        counted: bool = False,
    ) -> CandidateRun:
        """All in one process, or all tests in the folders ``suite_paths``; measures the module test by test.

        With ``counted`` a line counts as covered only if a second count has seen it, too.
        """
        config = ProbeConfig(
            mode="suite",
            args=_arguments(files, suite_paths),
            measure=self._measured(),
            counted=counted,
            contexts=True,
            seed=conditions.seed,
            deselect=sorted(without),
        )
        return self._run(files, config, conditions)

    def mutants(
        self, files: Mapping[str, str], without: Collection[str], suite_paths: Collection[str], plan: Mutation
    ) -> tuple[MutantRun, ...]:
        """Which tests notice which faults."""
        config = ProbeConfig(
            mode="mutate", args=_arguments(files, suite_paths), deselect=sorted(without), mutation=plan
        )
        return self._run(files, config).probed.mutants

    def path_of(self, case: CollectedTest) -> str:
        """The file of a test, relative to the project; empty where it is not in it."""
        return self._file(case.file)

    def _below_project(self, file: str) -> str:
        place, project = paths.inside(self.workspace, file), PurePosixPath(self.workspace.component.root)
        return place.relative_to(project).as_posix() if place is not None and place.is_relative_to(project) else ""

    def _measured(self) -> dict[str, str]:
        return {self.module.path: str(self.module_file)}

    def _run(
        self, files: Mapping[str, str], config: ProbeConfig, conditions: RunConditions = DEFAULT_CONDITIONS
    ) -> CandidateRun:
        self.guard.restore()
        written = {PurePosixPath(self.workspace.component.root, name).as_posix(): name for name in files}
        for path, name in written.items():
            self.guard.foreign.write_text(path, files[name])
        probed = run_probe(self.workspace, config, conditions)
        changed = self.guard.changes(but=written)
        return CandidateRun(probed, tuple(changed))


def _arguments(files: Collection[str], suite_paths: Collection[str]) -> list[str]:
    # Never a folder and a file in it: pytest 8 then leaves out the rest of the folder.
    return sorted(suite_paths or files)
