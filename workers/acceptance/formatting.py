"""The last touch on accepted tests: one file for each module and engine, in the repository's own style."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import BaseModel, TypeAdapter, ValidationError

from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Workspace
from workers.component import parsing, quality_tools
from workers.component.paths import inside


class _Finding(BaseModel):
    """What ruff says of one finding, as far as it is looked at."""

    filename: str
    code: str | None


_REPORT = TypeAdapter(list[_Finding])


def merge_test_files(first: str, second: str) -> str | None:
    """One test file out of two: the docstring of the first, the imports of both, then the tests of both.

    Returns:
        The source, or ``None`` when both define something of the same name, or one does not parse.
    """
    try:
        one, other = _Parts.of(first), _Parts.of(second)
    except SyntaxError:
        return None
    if one.names & other.names:
        return None
    imports = one.imports + [line for line in other.imports if line not in one.imports]
    return "\n\n".join(part for part in (one.docstring, "\n".join(imports), one.body, other.body) if part) + "\n"


def format_tests(workspace: Workspace, files: Mapping[str, str]) -> dict[str, str]:
    """The files, fixed and formatted by ruff as the repository configures it.

    A rule that is broken all the same is switched off at the top of the file: a test that pins what the code does may
    have to say ``not a != b``.

    Args:
        workspace: A tree in which nothing foreign has run; it is left as it was.
        files: Path relative to the project folder -> source.

    Raises:
        OSError: They cannot be written there.
    """
    tree = ForeignTree(workspace.root)
    paths = {PurePosixPath(workspace.component.root, path): path for path in files}
    # A file, or the first folder that is made for it.
    made = {next(each for each in (*reversed(path.parents[:-1]), path) if not tree.exists(each)) for path in paths}
    try:
        for path, name in paths.items():
            tree.write_text(path, files[name])
        names = quality_tools.names(workspace, (workspace.root / path for path in paths))
        quality_tools.ruff(workspace, "check", "--fix", "--exit-zero", "--quiet", "--extend-select=I", *names)
        quality_tools.ruff(workspace, "format", "--quiet", *names)
        broken = _broken_rules(workspace, names)
        return {name: _excused(tree.read_text(path), broken.get(path, ())) for path, name in paths.items()}
    finally:
        for path in made:
            tree.remove(path)


def _broken_rules(workspace: Workspace, names: Sequence[str]) -> dict[PurePosixPath, list[str]]:
    done = quality_tools.ruff(workspace, "check", "--exit-zero", "--quiet", "--output-format=json", *names)
    try:
        findings = _REPORT.validate_json(done.stdout)
    except ValidationError:
        return {}  # ruff says why when the gate asks it
    rules: dict[PurePosixPath, list[str]] = {}
    for finding in findings:
        if (path := inside(workspace, finding.filename)) is not None:
            rules.setdefault(path, []).append(finding.code or "")
    return rules


def _excused(source: str, rules: Iterable[str]) -> str:
    codes = ", ".join(sorted({rule for rule in rules if rule[:1].isupper()}))
    return f"# ruff: noqa: {codes}\n{source}" if codes else source


class _Parts:
    """A test file in three parts."""

    def __init__(self, docstring: str, imports: list[str], body: str, names: frozenset[str]) -> None:
        self.docstring = docstring
        self.imports = imports
        self.body = body
        self.names = names

    @classmethod
    def of(cls, source: str) -> _Parts:
        tree = parsing.shallow(parsing.python(source))
        rest, head = list(tree.body), 0
        docstring = ""
        if ast.get_docstring(tree) is not None:
            docstring, head = ast.get_source_segment(source, rest[0]) or "", rest[0].end_lineno or 0
            rest.pop(0)
        imports = []
        while rest and isinstance(rest[0], ast.Import | ast.ImportFrom):
            imports.append(ast.get_source_segment(source, rest[0]) or "")
            head = rest.pop(0).end_lineno or 0
        body = "\n".join(source.splitlines()[head:]).strip("\n")
        return cls(docstring, imports, body, frozenset(name for node in rest for name in _defined(node)))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    return [name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
