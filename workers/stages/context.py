"""What a stage works with: the tree, the environment, the stores, and somebody to tell."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tta_tasks.cache import ResultCache
from tta_tasks.ledger import Ledger
from tta_tasks.models import Request, Result, TaskRecord, Usage
from tta_tasks.protocols import ArtifactStore, Limits, Sandbox, Workspace
from tta_tasks.settings import Settings, settings
from tta_tasks.stores import open_store
from workers.component.checkouts import SnapshotCache
from workers.environment import prepare_environment
from workers.sandbox import detect_sandbox, tempdirs

#: The ledger is not told of progress more often than this.
PROGRESS_EVERY_S = 0.2


@dataclass
class Context:
    """What a stage works with on one task."""

    task: TaskRecord
    ledger: Ledger
    settings: Settings = field(default_factory=settings)
    #: What agents have taken for this task.
    usage: Usage = field(default_factory=Usage)
    _told_at: float = 0.0

    @cached_property
    def store(self) -> ArtifactStore:
        """Where artifacts are."""
        return open_store(self.settings)

    @cached_property
    def cache(self) -> ResultCache:
        """Results by content."""
        return ResultCache(self.settings)

    @cached_property
    def snapshots(self) -> SnapshotCache:
        """This host's unpacked snapshots."""
        return SnapshotCache(
            self.settings.cache / "snapshots",
            self.store,
            self.settings.cache_bytes,
            max_snapshot_bytes=self.settings.max_snapshot_bytes,
            max_snapshot_files=self.settings.max_snapshot_files,
        )

    @cached_property
    def sandbox(self) -> Sandbox:
        """Runs all code that is not ours."""
        return detect_sandbox()

    def results(self, task_ids: Iterable[str]) -> tuple[Result, ...]:
        """Results of earlier tasks, in their order; those that left none are not among them."""
        return tuple(result for result in self.ledger.results(task_ids) if result is not None)

    def progress(self, message: str) -> None:
        """Tell whoever watches what is being done now."""
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self.ledger.progress(self.task, message)

    def spend(self, usage: Usage) -> None:
        """Take note of what agents took."""
        self.usage += usage

    def cancelled(self) -> bool:
        """Whether nobody waits for this task any more."""
        return self.ledger.is_cancelled(self.task)

    def holds(self, result: Result) -> bool:
        """Whether the artifacts a stored result refers to are still there."""
        return all(self.store.has(digest) for digest in result.artifacts)

    @contextlib.contextmanager
    def workspace(self, request: Request) -> Iterator[Workspace]:
        """A throwaway checkout of the request's snapshot, with its environment ready.

        Raises:
            ArtifactMissing: The snapshot has expired.
            SnapshotError: It is not a safe archive.
            EnvironmentFailed: The component's dependencies do not install.
        """
        with self.tree(request.snapshot) as root:
            yield self.prepare(root, request)

    @contextlib.contextmanager
    def tree(self, digest: str) -> Iterator[Path]:
        """A throwaway checkout of a snapshot; gone with everything beside it when the block ends."""
        with tempdirs.create(self.settings.cache / "work") as folder:
            self.progress("checking out")
            root = folder / "tree"
            self.snapshots.checkout(digest, root)
            yield root

    def prepare(self, root: Path, request: Request) -> Workspace:
        """A workspace on a tree that is already checked out."""
        self.progress("preparing the environment")
        environment = prepare_environment(
            root / request.component.root,
            request.component,
            sandbox=self.sandbox,
            cache=self.settings.cache,
            progress=self.progress,
        )
        beside = root.parent / "scratch"
        beside.mkdir(exist_ok=True)
        return Workspace(
            root=root,
            component=request.component,
            python=environment.python,
            sandbox=self.sandbox,
            scratch=beside,
            readable=environment.readable,
            limits=Limits(wall_s=self.settings.suite_timeout_s, memory_bytes=self.settings.sandbox_memory_bytes),
            progress=self.progress,
            cancelled=self.cancelled,
            task_id=self.task.id,
            run_id=self.task.run_id or "",
            spend=self.spend,
        )
