"""What an agent is told: the module, what is around it, what is missing, and what will be looked at."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tta_tasks.foreign import ForeignTree
from tta_tasks.models import ModuleCoverage, RejectedTest
from tta_tasks.protocols import GenerationJob, Workspace
from workers.component import parsing
from workers.component.imports import import_closure, importers

#: Most characters of other modules' interfaces, and most entries of a list.
MOST_INTERFACE = 6000
MOST_ENTRIES = 40

GENERATION = """\
Write pytest tests for the module `{module}` ({path}), so that at least {threshold:.0f} % of its lines and branches are
covered. Now it is {percent:.0f} %.

You work in {project}. Write your tests to this one file, and change nothing else: {output}
Everything outside of {tests} is read-only. There is no network.

Run them with: {command}

What counts: each test asserts something or expects an exception; passes alone, in any order, and every time; leaves no
file, process or setting behind; covers lines or branches that no other test covers, or would notice a change of
behaviour that no other test notices. Tests that do not are thrown away, one by one. Test behaviour, by the public
interface; never test that a mock was called. If you find what looks like a bug, pin what the code does today, and say
so in a comment.

{around}"""

FURTHER = """\
Your tests were judged. Coverage of `{module}` is {percent:.0f} % now, with those that were kept; {threshold:.0f} % are
asked for. Write further tests to {output}. Leave what you wrote before as it is; do not repeat it.

{gaps}
{rejected}"""

REFACTORING = """\
Refactor the source of `{component}` so that it is easier to read and to change, and does exactly what it does now:
remove duplication, split long functions, name things well, use what the language offers.

You work in {project}. You may change these files, and add or remove none:
{files}
Everything else is read-only. There is no network.

The public interface (names, parameters, defaults) must stay as it is, every module must still be importable, the tests
must pass, and the linter must find nothing new. Run the tests with: {command}

If there is nothing worth changing, change nothing and finish."""

REFUSED = """\
Your refactoring was tried and not kept, because it {reason}. Everything is as you left it. Change it so that it holds,
or take that part back."""


def generation(job: GenerationJob, tree: Path, command: str) -> str:
    """The opening of a conversation about a module's tests."""
    project = tree / job.workspace.component.root
    return GENERATION.format(
        module=job.module.name,
        path=job.module.path,
        threshold=job.coverage_threshold,
        percent=job.coverage.percent,
        project=project,
        output=project / job.output_path,
        tests=project / job.workspace.component.tests,
        command=command,
        around="\n\n".join(part for part in _around(job) if part),
    )


def further(job: GenerationJob, tree: Path) -> str:
    """The beginning of a further round."""
    return FURTHER.format(
        module=job.module.name,
        percent=job.coverage.percent,
        threshold=job.coverage_threshold,
        output=tree / job.workspace.component.root / job.output_path,
        gaps=_gaps(job.coverage),
        rejected=_rejected(job.rejected),
    )


def refactoring(workspace: Workspace, tree: Path, command: str) -> str:
    """The opening of a conversation about a component's source."""
    return REFACTORING.format(
        component=workspace.component.name,
        project=tree / workspace.component.root,
        files=_listed(module.path for module in workspace.component.modules),
        command=command,
    )


def _around(job: GenerationJob) -> Iterator[str]:
    yield _gaps(job.coverage)
    if job.criteria:
        yield "The specification asks for:\n" + _listed(f"{each.id}: {each.text}" for each in job.criteria)
    workspace = job.workspace
    foreign, module = ForeignTree(workspace.root), workspace.project / job.module.path
    tests = sorted(importers(foreign, workspace.tests, {module}, workspace.import_root))
    if tests:
        names = (file.relative_to(workspace.project).as_posix() for file in tests)
        yield "Existing tests that concern it; follow their style:\n" + _listed(names)
    imported = sorted(import_closure(foreign, module, workspace.import_root) - {module})
    interfaces = _interfaces(foreign, imported, workspace.project)
    if interfaces:
        yield "What it imports from here:\n" + interfaces


def _gaps(coverage: ModuleCoverage) -> str:
    lines = ", ".join(_ranges(coverage.missing_lines))
    branches = ", ".join(
        f"{start} to {'the exit' if end <= 0 else end}" for start, end in coverage.missing_branches[:MOST_ENTRIES]
    )
    said = [f"Lines not covered: {lines}." if lines else "", f"Branches not taken: {branches}." if branches else ""]
    return "\n".join(part for part in said if part)


def _ranges(lines: Sequence[int]) -> Iterator[str]:
    """``3``, ``7-9``."""
    start = last = None
    for line in [*sorted(lines), None]:
        if last is not None and line == last + 1:
            last = line
            continue
        if start is not None:
            yield str(start) if start == last else f"{start}-{last}"
        start = last = line


def _rejected(rejected: Sequence[RejectedTest]) -> str:
    if not rejected:
        return ""
    return "Not kept:\n" + _listed(f"{each.name}: {each.reason} {each.detail[:200]}".rstrip() for each in rejected)


def _interfaces(foreign: ForeignTree, files: Iterable[Path], project: Path) -> str:
    said: list[str] = []
    for file in files:
        try:
            tree = parsing.shallow(parsing.python(foreign.read_bytes(file, max_bytes=parsing.MAX_SOURCE_BYTES)))
        except (OSError, SyntaxError):
            continue
        if signatures := list(_signatures(tree.body, "")):
            said.append("\n".join([f"# {file.relative_to(project).as_posix()}", *signatures]))
    return "\n".join(said)[:MOST_INTERFACE]


def _signatures(body: Sequence[ast.stmt], indent: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not node.name.startswith("_") or node.name == "__init__":
                returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                yield f"{indent}def {node.name}({ast.unparse(node.args)}){returns}"
            case ast.ClassDef():
                bases = ", ".join(map(ast.unparse, node.bases))
                yield f"{indent}class {node.name}({bases})"
                yield from _signatures(node.body, f"{indent}    ")


def _listed(entries: Iterable[str]) -> str:
    entries = list(entries)
    more = [f"- and {len(entries) - MOST_ENTRIES} more"] if len(entries) > MOST_ENTRIES else []
    return "\n".join([f"- {entry}" for entry in entries[:MOST_ENTRIES]] + more)
