"""What is tried with an example: the product's own functions, and what may come of them.

Each function takes a :class:`~tests.hostile.places.Place` and an example, gives the place all that came back, and says
in a word how it ended. Errors of the project (:class:`~tta_tasks.errors.TtaError`) are foreseen everywhere; further
ones are named beside the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import TypeAdapter

from orchestrator.local import joining as state
from orchestrator.prepare import RunOptions, prepare
from tests.hostile import examples, fleet, forms
from tests.hostile.examples import Answer, Archive, Deed, Hunk, Project, Wheel
from tests.hostile.places import BOUNDS, COMPONENT, MODULE, Place
from tta_tasks import patches, plugins, snapshot, stack
from tta_tasks.errors import TtaError
from tta_tasks.foreign import ForeignTree, Refused
from tta_tasks.models import GenerationRequest, ModuleCoverage, RefactoringRequest, Request, Result, SuiteReport
from tta_tasks.protocols import CandidateTests, GenerationJob, ReleaseRequest, Workspace
from tta_tasks.settings import settings
from tta_tasks.stores.content import digest_of
from tta_tasks.testing import MemoryStore
from workers.acceptance.runner import TestRunner
from workers.acceptance.tree_guard import TreeGuard
from workers.component.checkouts import SnapshotCache
from workers.component.suite import run_suite
from workers.component.wheels import Wheels, release_digest
from workers.deployers.local import LocalDeployer
from workers.environment.declaration import read_declaration
from workers.generators.characterize.generator import CharacterizeGenerator
from workers.probe.config import Mutation
from workers.stages import generation as generation_stage
from workers.stages import refactoring as refactoring_stage
from workers.stages.context import Context
from workers.stages.verification import Verification


@dataclass(frozen=True)
class Kind:
    """A kind of example."""

    strategy: SearchStrategy[Any]
    run: Callable[[Place, Any], str]
    #: The stage it goes through; empty for those that only pass a function's door.
    stage: str = ""
    #: Errors that may come out: the project's own, and what a task's end says in plain words (workers/stages/dispatch).
    foreseen: tuple[type[Exception], ...] = (TtaError, Refused)
    #: Seconds after which an example is taken to hang; nothing on any host takes a tenth of that.
    hangs_s: float = 120.0
    #: Processes that live as long as the batch, started by the first call; none may ever be another.
    staff: Callable[[], frozenset[int]] = frozenset


# -- trees -------------------------------------------------------------------------------------------------------------


@contextmanager
def _tolerant(place: Place, *foreseen: type[Exception]) -> Iterator[None]:
    """Go on where a function refuses in a way that it may."""
    allowed: tuple[type[Exception], ...] = (TtaError, *foreseen)
    try:
        yield
    except allowed as error:
        place.said.append(str(error))


def tree(place: Place, example: tuple[tuple[Deed, ...], dict[str, str]]) -> str:
    """Whatever looks at a tree that is somebody else's, one after the other."""
    place.make_tree(*example)
    workspace = place.workspace()
    with _tolerant(place, OSError):
        _walked(place)
    with _tolerant(place):
        place.said.append(str(read_declaration(workspace.project, COMPONENT)))
    with _tolerant(place, OSError):
        guard = TreeGuard(workspace.root, place.folder / "guarded")
        place.write("src/calc/ops.py", "x = 1\n")
        place.said += guard.changes()
        guard.restore()
    with _tolerant(place):
        packed = snapshot.pack(place.tree, **BOUNDS)
        place.said += [packed.data, *packed.warnings]
        snapshot.unpack(packed.data, place.folder / "unpacked", **BOUNDS)
        place.said.append(patches.diff(place.folder / "unpacked", place.tree))
    return "looked at"


def repository(place: Place, example: tuple[tuple[Deed, ...], dict[str, str]]) -> str:
    """What a producer does with a repository before a run."""
    place.make_tree(*example)
    spec = place.folder / "spec.md"
    spec.write_text("---\ncomponent: calc\n---\n# Calc\n\n## Acceptance criteria\n\n- `half` halves.\n")
    with _tolerant(place), chdir(place.tree):
        state.prepare(Path(".tta"))
        stack.find(Path(".tta"))
    with _tolerant(place):
        taken = snapshot.take(place.tree, **BOUNDS)
        place.said += [taken.data, taken.commit, *taken.warnings]
    prepared = prepare(spec, RunOptions(repository=place.tree), settings())
    place.said += [prepared.plan.model_dump_json(), prepared.snapshot.data]
    return "prepared"


def _walked(place: Place) -> None:
    """The one door: read, list, write, copy and remove everything."""
    door = ForeignTree(place.tree)
    numbers = TypeAdapter(list[int])
    for path in examples.VICTIMS.values():
        with _tolerant(place, OSError):
            place.said.append(door.read_bytes(path, max_bytes=1 << 16))
        with _tolerant(place, OSError, UnicodeDecodeError):
            place.said.append(door.read_text(path, max_bytes=1 << 16))
        with _tolerant(place, OSError):
            place.said.append(str(door.read_json(path, numbers, max_bytes=1 << 16)))
    for found in door.walk(max_entries=2000):
        place.said.append(found.path)
    with _tolerant(place, OSError):
        door.copy_to(place.folder / "copied", max_bytes=8 << 20)
    for path in ("src/calc/ops.py", "tests/new/test_x.py", "venv/bin/python3", ".git/x", ".tta/y"):
        with _tolerant(place, OSError):
            door.write_bytes(path, b"written")
        with _tolerant(place, OSError):
            door.make_folder(f"{path}.d")
    for path in ("src", "venv", "tests", ".git", ".tta"):
        with _tolerant(place, OSError):
            door.remove(path)


# -- archives and patches ----------------------------------------------------------------------------------------------


def archive(place: Place, example: Archive) -> str:
    """Unpack it, into a folder and into the host's cache, and check it out."""
    data = forms.archive_bytes(example, place)
    with suppress(TtaError):
        snapshot.unpack(data, place.folder / "unpacked", **BOUNDS)
    store = MemoryStore()
    cache = SnapshotCache(
        place.folder / "cache",
        store,
        1 << 20,
        max_snapshot_bytes=BOUNDS["max_bytes"],
        max_snapshot_files=BOUNDS["max_files"],
    )
    cache.checkout(store.put(data), place.tree)
    again = snapshot.pack(place.tree, **BOUNDS)
    place.said.append(again.data)
    return "checked out"


def patch(place: Place, example: tuple[tuple[Hunk, ...], tuple[Deed, ...]]) -> str:
    """Read and apply it, to a tree that is hostile, too."""
    hunks, nodes = example
    place.make_tree(nodes, {})
    (place.tree / "link").symlink_to(place.zone.path("folder"))
    data = forms.patch_bytes(hunks, place)
    with _tolerant(place):
        place.said += patches.paths(data)
    place.said += patches.apply(data, place.tree, allowed=lambda path: not path.startswith("conftest"))
    return "applied"


# -- journals ----------------------------------------------------------------------------------------------------------


def journal(place: Place, example: tuple[tuple[tuple[str, Answer], ...], int, str]) -> str:
    """What the worker reads back from interpreters that are no longer the component's own."""
    answers, status, mode = example
    place.make_tree((), {})
    program = forms.put_usurper(place, answers, status)
    workspace = replace(place.workspace(), python=program, readable=(*place.readable, program.parent))
    place.said.append(str(_asked(workspace, mode)))
    return mode


def _asked(workspace: Workspace, mode: str) -> object:
    if mode == "suite":
        return run_suite(workspace)
    if mode == "search":
        coverage = ModuleCoverage(path=MODULE.path, statements=9, covered_statements=0, branches=0, covered_branches=0)
        job = GenerationJob(workspace, MODULE, coverage, 100.0, (), "tests/test_gen.py", budget_s=1.5, seed=0)
        return CharacterizeGenerator().generate(job)
    if mode == "imports":
        return Verification(workspace, workspace, SuiteReport())()
    guard = TreeGuard(workspace.root, workspace.scratch / "guarded")
    runner = TestRunner(workspace, MODULE, guard)
    files = {"tests/test_gen.py": "def test_x():\n    assert 1\n"}
    if mode == "isolate":
        return runner.alone(files)
    module = str(runner.module_file)
    return runner.mutants(files, (), (), Mutation(module, [], [], {}, {}, budget_s=0.1, most=1, seed=0))


# -- the real stages ---------------------------------------------------------------------------------------------------


@dataclass
class _Context(Context):
    """A stage's context without a fleet around it: nobody cancels, and nothing was done before."""

    place: Place | None = None

    @cached_property
    def store(self) -> MemoryStore:
        """Artifacts of this example."""
        return MemoryStore()

    def results(self, task_ids: Iterable[str]) -> tuple[Result, ...]:
        """There are none."""
        assert not tuple(task_ids)
        return ()

    def progress(self, message: str) -> None:
        """Keep what is told."""
        assert self.place is not None
        self.place.said.append(message)

    def cancelled(self) -> bool:
        """Nobody does."""
        return False

    @contextmanager
    def workspace(self, request: Request) -> Iterator[Workspace]:
        """The example's."""
        assert self.place is not None
        assert request.component == COMPONENT
        yield self.place.workspace()


def _context(place: Place) -> _Context:
    nobody: Any = None
    return _Context(nobody, nobody, place=place)


class Proposes:
    """A generator that proposes the tests of the example at hand."""

    name = "proposes"
    version = "1"
    candidates: tuple[CandidateTests, ...] = ()

    def available(self) -> str:
        """It always is."""
        return ""

    def generate(self, job: GenerationJob) -> tuple[CandidateTests, ...]:
        """Propose them once."""
        return self.candidates if job.round == 1 else ()


plugins._found(plugins.GENERATORS)[Proposes.name] = EntryPoint(
    Proposes.name, f"{__name__}:{Proposes.__qualname__}", plugins.GENERATORS
)


def acceptance(place: Place, example: Project) -> str:
    """Generate tests, as the stage does: run a project's suite, and accept what was proposed, or not."""
    place.check_out(example)
    context = _context(place)
    Proposes.candidates = (CandidateTests(place.word(example.candidate), place.candidate(example)),)
    request = GenerationRequest(
        snapshot="0" * 64, component=COMPONENT, module=MODULE, engine=Proposes.name, coverage_threshold=100.0
    )
    result = generation_stage.run(request, context)
    place.said += [result.model_dump_json(), *context.store.artifacts.values()]
    return "accepted" if result.accepted else "turned down"


def refactoring(place: Place, example: Project) -> str:
    """Refactor a project, as the stage does; what it makes of it is a patch."""
    place.check_out(example)
    context = _context(place)
    request = RefactoringRequest(snapshot="0" * 64, component=COMPONENT, engine="embedded")
    result = refactoring_stage.run(request, context)
    place.said += [result.model_dump_json(), *context.store.artifacts.values()]
    return "kept" if result.patch else "nothing kept"


def build(place: Place, example: Project) -> str:
    """Build the wheel of a project whose builder is its own."""
    plain = replace(example, nodes=(), configurations={})
    place.make_project(plain)
    wheel = forms.wheel_bytes(example.wheel or Wheel(()), place)
    place.remove()
    place.check_out(example)
    (place.tree / "wheel.bin").write_bytes(wheel)
    release = release_digest(digest_of(str(place.folder).encode()), COMPONENT)
    cache = settings().cache
    wheels = Wheels(cache, place.sandbox)
    built = wheels.build(release, place.tree, COMPONENT, place.said.append)
    assert wheels.find(release) == built
    place.said.append(built.read_bytes())
    return "built"


def deployment(place: Place, example: tuple[Project, bool]) -> str:
    """Deploy a wheel, whose modules do harm when they are tried, beside a release that is in use."""
    project, scripts = example
    place.make_project(replace(project, nodes=(), configurations={}))
    wheel = project.wheel or Wheel(())
    # A worker keeps wheels itself, as files: what may be in place of one meets it when it is built.
    wheel = wheel if wheel.door in {"cut", "garbage"} else replace(wheel, door="file")
    path = forms.put_wheel(wheel, place, place.folder / "artifact")
    request = ReleaseRequest(
        component=COMPONENT,
        environment="staging",
        digest=digest_of(str(place.folder).encode()),
        artifact=path,
        sandbox=place.sandbox,
        target={"path": str(place.folder / "srv"), "keep": 1, "check_scripts": scripts},
        progress=place.said.append,
    )
    release = LocalDeployer().release(request)
    place.said.append(str(release))
    with suppress(TtaError):
        place.said.append(str(LocalDeployer().check(request)))
    place.said.append(str(LocalDeployer().history("calc", "staging", request.target)))
    return release.action


KINDS: dict[str, Kind] = {
    "trees": Kind(examples.TREES, tree),
    "repositories": Kind(examples.TREES, repository),
    "archives": Kind(examples.ARCHIVES, archive),
    "patches": Kind(examples.PATCHES, patch),
    "journals": Kind(examples.JOURNALS, journal, hangs_s=300.0),
    "accepted": Kind(examples.projects("acceptance"), acceptance, "acceptance", hangs_s=900.0),
    "refactored": Kind(examples.projects("refactoring"), refactoring, "refactoring", hangs_s=900.0),
    "built": Kind(examples.projects("build"), build, "build", hangs_s=600.0),
    "runs": Kind(examples.projects("run"), fleet.run, "all of a run", hangs_s=1200.0, staff=fleet.staff),
    "deployed": Kind(
        st.tuples(examples.projects("deployment"), st.booleans()), deployment, "deployment", hangs_s=600.0
    ),
}
