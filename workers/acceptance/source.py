"""A test file as text that tests and rows can be taken out of, the rest untouched."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ruff import find_ruff_bin  # type: ignore[import-untyped]

from workers.component import parsing

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class TestFunction:
    """A test function as it is written."""

    __test__ = False

    #: ``test_x``, or ``TestY::test_x``.
    key: str
    node: _Function
    owner: ast.ClassDef | None = None

    @property
    def lines(self) -> int:
        """How long it is."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def tables(self) -> tuple[ast.Call, ...]:
        """Its ``parametrize`` decorators."""
        return tuple(
            decorator
            for decorator in self.node.decorator_list
            if isinstance(decorator, ast.Call) and dotted(decorator.func).endswith("mark.parametrize")
        )

    def rows(self, parameters: Collection[str]) -> list[ast.List | ast.Tuple]:
        """The lists to take a row out of, values and ids; empty where single rows cannot be taken out.

        Args:
            parameters: Names that the rows give values to.
        """
        if len(self.tables) != 1 or len(self.tables[0].args) < 2:  # noqa: PLR2004  # names and values
            return []
        names, values = self.tables[0].args[:2]
        ids = [keyword.value for keyword in self.tables[0].keywords if keyword.arg == "ids"]
        lists = [node for node in (values, *ids) if isinstance(node, ast.List | ast.Tuple)]
        literal = len(lists) == 1 + len(ids) and not any(isinstance(e, ast.Starred) for n in lists for e in n.elts)
        return lists if literal and set(_names(names)) == set(parameters) else []


@dataclass(frozen=True)
class TestFile:
    """A candidate's source, parsed.

    Raises:
        SyntaxError: It does not parse, is too large, nested too deeply, or holds null bytes.
    """

    __test__ = False

    source: str
    tree: ast.Module = field(init=False)
    functions: Mapping[str, TestFunction] = field(init=False)

    def __post_init__(self) -> None:
        tree = parsing.shallow(parsing.python(self.source))
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "functions", {function.key: function for function in _functions(tree)})

    def without(self, functions: Collection[str], rows: Mapping[str, Collection[int]] | None = None) -> str:
        """The source without some functions, and without some rows of others.

        Imports that nothing needs any more go, too. An empty string means that no test is left.
        """
        gone = set(functions)
        if gone >= set(self.functions):
            return ""
        text = _Text(self.source)
        for class_ in {function.owner for function in self.functions.values()} - {None}:
            members = {function.key for function in self.functions.values() if function.owner is class_}
            if class_ is not None and members <= gone:
                text.drop_definition(class_)
                gone -= members
        for key in gone:
            text.drop_definition(self.functions[key].node)
        for key, indices in (rows or {}).items():
            table = self.functions[key].tables[0]
            for elements in self.functions[key].rows(_names(table.args[0])):
                text.drop_elements(elements, indices)
        pruned = text.edited()
        return pruned if pruned == self.source else _tidied(pruned, self.source)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for such an expression, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _functions(tree: ast.Module) -> Iterator[TestFunction]:
    for node in tree.body:
        if isinstance(node, _Function) and node.name.startswith("test"):
            yield TestFunction(node.name, node)
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, _Function) and member.name.startswith("test"):
                    yield TestFunction(f"{node.name}::{member.name}", member, node)


def _names(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [name.strip() for name in node.value.split(",") if name.strip()]
    if isinstance(node, ast.List | ast.Tuple):
        return [str(element.value) for element in node.elts if isinstance(element, ast.Constant)]
    return []


class _Text:
    """Source with edits; offsets are bytes, as :mod:`ast` counts."""

    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.lines = self.data.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))
        self.edits: list[tuple[int, int, bytes]] = []

    def edited(self) -> str:
        """The source with all edits."""
        data = self.data
        for start, end, new in sorted(self.edits, reverse=True):
            data = data[:start] + new + data[end:]
        return data.decode()

    def drop_definition(self, node: _Function | ast.ClassDef) -> None:
        """Take out a function or class with its decorators, the comment on top of it and the blank lines after it."""
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        last = node.end_lineno or node.lineno
        while first and self.lines[first - 1].lstrip().startswith(b"#"):
            first -= 1
        while last < len(self.lines) and not self.lines[last].strip():
            last += 1
        self.edits.append((self.starts[first], self.starts[last], b""))

    def drop_elements(self, node: ast.List | ast.Tuple, indices: Collection[int]) -> None:
        """Take some elements out of a list."""
        if self._a_line_each(node):
            for element in (node.elts[index] for index in indices if 0 <= index < len(node.elts)):
                self.edits.append((self.starts[element.lineno - 1], self.starts[element.end_lineno or 0], b""))
            return
        kept = [self._text(element) for index, element in enumerate(node.elts) if index not in indices]
        opening, closing = (b"[", b"]") if isinstance(node, ast.List) else (b"(", b",)")
        self.edits.append((*self._span(node), opening + b", ".join(kept) + closing))

    def _a_line_each(self, node: ast.List | ast.Tuple) -> bool:
        lines = [node.lineno, *(line for e in node.elts for line in {e.lineno, e.end_lineno}), node.end_lineno]
        return len(lines) == len(set(lines))

    def _span(self, node: ast.expr) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def _text(self, node: ast.expr) -> bytes:
        start, end = self._span(node)
        return self.data[start:end]


def _tidied(pruned: str, original: str) -> str:
    """Without unused imports; formatted where the original was."""
    source = _ruff(pruned, "check", "--select=F401", "--fix", "--quiet", "--exit-zero")
    return _ruff(source, "format") if _ruff(original, "format") == original else source


def _ruff(source: str, *arguments: str) -> str:
    command = [find_ruff_bin(), *arguments, "--isolated", "--no-cache", "-"]
    done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", check=False, timeout=60)
    # Newer syntax than ruff knows is no reason to drop a test.
    return source if done.returncode else done.stdout
