"""Calls that people wrote: in docstrings, the README and the tests that are there. The best inputs there are."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MAX_FILES = 60
_MAX_BYTES = 300_000
_MAX_DUMP = 4000
_FENCE = re.compile(r"```(?:python|py|pycon)?\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A call of ``name`` with these argument expressions."""

    name: str
    positional: tuple[str, ...]
    keywords: tuple[tuple[str, str], ...]


def from_text(text: str) -> Iterator[Example]:
    """Examples in prose: ``>>>`` lines and fenced code."""
    try:
        prompts = [example.source for example in doctest.DocTestParser().get_examples(text)]
    except ValueError:
        prompts = re.findall(r"^\s*>>> (.*)$", text, re.MULTILINE)
    fences = [block for block in _FENCE.findall(text) if ">>>" not in block]
    known: dict[str, ast.expr] = {}
    for source in [*prompts, *fences]:
        yield from _from_source(source, known)


def from_tests(folder: Path) -> Iterator[Example]:
    """Examples in the test files of a folder."""
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else []
    for file in files[:_MAX_FILES]:
        if file.stat().st_size <= _MAX_BYTES:
            yield from _from_source(file.read_text(encoding="utf-8", errors="replace"), {})


def from_readme(folder: Path) -> Iterator[Example]:
    """Examples in the project's README."""
    for file in sorted(folder.glob("README*"))[:2]:
        if file.is_file() and file.stat().st_size <= _MAX_BYTES:
            yield from from_text(file.read_text(encoding="utf-8", errors="replace"))


def _from_source(source: str, known: dict[str, ast.expr]) -> Iterator[Example]:
    """Calls in ``source``; names assigned once to a value (also in ``known``, and parametrised ones) are put in."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        scope = node.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [node]
        for statement in scope:
            rows = _parametrised(statement) if isinstance(statement, ast.FunctionDef) else []
            inner = dict(known)
            _assignments(statement, known if statement is node else inner)
            for row in rows or [{}]:
                yield from _calls(statement, {**known, **inner, **row})
        if isinstance(node, ast.FunctionDef):
            inner = dict(known)
            for row in _parametrised(node) or [{}]:
                for statement in node.body:
                    _assignments(statement, inner)
                    yield from _calls(statement, {**inner, **row})


def _assignments(statement: ast.stmt, known: dict[str, ast.expr]) -> None:
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = _Substitute(dict(known)).visit(node.value)


def _calls(statement: ast.stmt, known: dict[str, ast.expr]) -> Iterator[Example]:
    for node in ast.walk(statement):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        plain = not any(isinstance(a, ast.Starred) for a in node.args) and all(k.arg for k in node.keywords)
        if name and plain and len(ast.dump(node)) < _MAX_DUMP:
            yield Example(
                name,
                tuple(_source(argument, known) for argument in node.args),
                tuple((keyword.arg or "", _source(keyword.value, known)) for keyword in node.keywords),
            )


def _source(node: ast.expr, known: dict[str, ast.expr]) -> str:
    copied = ast.parse(ast.unparse(node), mode="eval").body
    return ast.unparse(_Substitute(known).visit(copied))


def _parametrised(function: ast.FunctionDef) -> list[dict[str, ast.expr]]:
    """Rows of ``pytest.mark.parametrize``: parameter's name -> expression."""
    rows: list[dict[str, ast.expr]] = []
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize")):
            continue
        names, values = [*decorator.args, None, None][:2]
        if not isinstance(values, (ast.List, ast.Tuple)) or names is None:
            continue
        text = ast.literal_eval(names) if isinstance(names, (ast.Constant, ast.Tuple, ast.List)) else ""
        fields = [part.strip() for part in text.split(",")] if isinstance(text, str) else [str(part) for part in text]
        for value in values.elts[:40]:
            cells = value.elts if isinstance(value, (ast.Tuple, ast.List)) and len(fields) > 1 else [value]
            rows.append(dict(zip(fields, cells, strict=False)))
    return rows


class _Substitute(ast.NodeTransformer):
    def __init__(self, known: dict[str, ast.expr]) -> None:
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put the expression in place of the name."""
        return self._known.get(node.id, node) if isinstance(node.ctx, ast.Load) else node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        """Leave lambdas alone: their names are their own."""
        return node


def by_name(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples grouped by what they call, without repetitions, in order."""
    grouped: dict[str, dict[Example, None]] = {}
    for example in examples:
        grouped.setdefault(example.name, {})[example] = None
    return {name: list(found) for name, found in grouped.items()}
