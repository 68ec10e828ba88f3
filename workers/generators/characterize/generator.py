"""The worker's side: run the program, verify what it found, write the tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tta_tasks.errors import EngineFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Criterion
from tta_tasks.protocols import CandidateTests, GenerationJob
from workers.component import parsing
from workers.generators.characterize.exploration import Exchange, explore, verified
from workers.generators.characterize.program.case import Case
from workers.generators.characterize.render import RenderedTests, render
from workers.generators.characterize.selection import select
from workers.generators.characterize.style import styled

#: Added to the seed for each further round, so that it does not find the same again.
_ROUND_STRIDE = 7919


class CharacterizeGenerator:
    """Finds inputs by search, and pins today's behaviour on them. Needs no key and no network."""

    name = "characterize"
    version = "1"

    def available(self) -> str:
        """It always is: it needs what every worker has."""
        return ""

    def generate(self, job: GenerationJob) -> Sequence[CandidateTests]:
        """Propose one test file for the module; none where it offers nothing to call.

        Raises:
            EngineFailed: The module does not parse or cannot be imported, or the search broke down before it found
                anything.
        """
        tree = _parsed(job)
        seed = job.seed + _ROUND_STRIDE * (job.round - 1)
        exchange = Exchange(job.workspace.scratch)
        job.workspace.progress(f"exploring {job.module.name}")
        found = explore(job, exchange, seed)
        job.workspace.progress(f"verifying {len(found)} calls of {job.module.name}")
        held = verified(job, exchange, found, seed)
        if not held:
            return []
        tests = render(job.module.name, select(held), found, _order(tree))
        package = job.module.name.partition(".")[0]
        return [CandidateTests(job.output_path, styled(tests.source, package), _spoken_for(tests, job.criteria))]


def _parsed(job: GenerationJob) -> ast.Module:
    module = job.module.name
    path = PurePosixPath(job.workspace.component.root, job.module.path)
    try:
        source = ForeignTree(job.workspace.root).read_bytes(path, max_bytes=parsing.MAX_SOURCE_BYTES)
        return parsing.python(source)
    except OSError as error:
        raise EngineFailed(f"{module} cannot be read: {error.strerror}.") from error
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise EngineFailed(
            f"{module} does not parse: {error.msg} ({path.name}{where}).", "Mend the syntax and run again."
        ) from error


def _order(tree: ast.Module) -> dict[str, int]:
    """Where each function, class and method is defined: label -> line."""
    order = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            order[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            order |= {f"{node.name}.{m.name}": m.lineno for m in node.body if isinstance(m, ast.FunctionDef)}
    return order


def _spoken_for(tests: RenderedTests, criteria: Sequence[Criterion]) -> dict[str, tuple[str, ...]]:
    """The criteria whose text names what a test calls: test -> ids."""
    words = {criterion.id: set(re.findall(r"[A-Za-z_]\w*", criterion.text)) for criterion in criteria}
    spoken = {}
    for name, cases in tests.cases.items():
        ids = tuple(id_ for id_, known in words.items() if any(_named(case, known) for case in cases))
        if ids:
            spoken[name] = ids
    return spoken


def _named(case: Case, words: set[str]) -> bool:
    owner, _, member = case.target.partition(".")
    return (member.strip("_") if member else owner) in words or owner in words
