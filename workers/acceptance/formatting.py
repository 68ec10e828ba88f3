"""The last touch on accepted tests: one file for each module and engine, in the repository's own style."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tta_tasks.protocols import Workspace
from workers.component import quality_tools


def merge_test_files(first: str, second: str) -> str | None:
    """One test file out of two: the docstring of the first, the imports of both, then the tests of both.

    Returns:
        The source, or ``None`` when both define something of the same name.
    """
    one, other = _Parts.of(first), _Parts.of(second)
    if one.names & other.names:
        return None
    imports = one.imports + [line for line in other.imports if line not in one.imports]
    return "\n\n".join(part for part in (one.docstring, "\n".join(imports), one.body, other.body) if part) + "\n"


def format_tests(workspace: Workspace, files: Mapping[str, str]) -> dict[str, str]:
    """The files, fixed and formatted by ruff as the repository configures it.

    A rule that is broken all the same is switched off at the top of the file: a test that pins what the code does may
    have to say ``not a != b``.

    Args:
        workspace: The tree; it is left as it was.
        files: Path relative to the project folder -> source.
    """
    paths = {workspace.project / path: path for path in files}
    made = []
    try:
        for path, name in paths.items():
            made += [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
        names = quality_tools.names(workspace, paths)
        quality_tools.ruff(workspace, "check", "--fix", "--exit-zero", "--quiet", "--extend-select=I", *names)
        quality_tools.ruff(workspace, "format", "--quiet", *names)
        broken = _broken_rules(workspace, names)
        return {
            name: _excused(path.read_text(encoding="utf-8"), broken.get(path.resolve(), ()))
            for path, name in paths.items()
        }
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in sorted(set(made), key=lambda folder: len(folder.parts), reverse=True):
            folder.rmdir()


def _broken_rules(workspace: Workspace, names: Sequence[str]) -> dict[Path, list[str]]:
    done = quality_tools.ruff(workspace, "check", "--exit-zero", "--quiet", "--output-format=json", *names)
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        return {}  # ruff says why when the gate asks it
    rules: dict[Path, list[str]] = {}
    for finding in findings:
        rules.setdefault(Path(finding["filename"]).resolve(), []).append(finding["code"] or "")
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
        tree = ast.parse(source)
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
