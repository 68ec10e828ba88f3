"""A second way to count which statements are executed, which has nothing in common with coverage.py.

While a module of the component is loaded from its file, a counter is put before each of its simple statements; a line
that coverage.py has seen and whose counter has not moved was not executed. Only lines are compared of which both can
know:

- a simple statement begins there, and nothing else: no header of a compound statement, handler or ``case``;
- it is no docstring, no ``from __future__`` and no bare declaration;
- it is not in the body of a class itself, whose names a metaclass may make up, nor in a function that another compiler
  reads (``numba``);
- its module is loaded by the interpreter's own loader, and was not loaded before anything could be counted.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

#: The counters' name; in the builtins, so that the modules' own names are what they were.
_NAME = "__tta_seen__"
_SIMPLE = (
    ast.Expr,
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Return,
    ast.Raise,
    ast.Delete,
    ast.Assert,
    ast.Import,
    ast.ImportFrom,
    ast.Pass,
    ast.Break,
    ast.Continue,
)
#: Decorators that compile a function once more, from its bytecode or source.
_COMPILERS = {"jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc", "kernel", "script", "compile"}
_Loader = importlib.machinery.SourceFileLoader


class StatementCount:
    """Counts in the component's modules from :meth:`begin` on.

    Args:
        modules: Relative path -> absolute.
    """

    def __init__(self, modules: dict[str, str]) -> None:
        self._paths = {os.path.realpath(path): relative for relative, path in modules.items()}
        self._seen = bytearray()
        #: Path -> first counter, and the line of each, for each time that its code was made.
        self._counters: dict[str, list[tuple[int, list[int]]]] = {}
        #: Path -> source, and the code that was made of it.
        self._code: dict[str, tuple[bytes, CodeType]] = {}
        #: Modules that cannot be compared.
        self._beyond: set[str] = set()

    def begin(self) -> None:
        """From here on; before anything else may load the component."""
        if not self._paths:
            return
        self._beyond = self._paths.keys() & {os.path.realpath(path) for path in _loaded_files()}
        setattr(builtins, _NAME, self._seen)
        self._count_imported()
        self._count_run()
        self._count_rewritten()

    def unseen(self) -> Iterator[tuple[str, list[int] | None]]:
        """Module -> lines that were not executed, of those that both can know of; ``None`` where it knows nothing."""
        for path, relative in self._paths.items():
            if path in self._beyond:
                yield relative, None
                continue
            lines: set[int] = set()
            seen: set[int] = set()
            for first, places in self._counters.get(path) or [(len(self._seen), _lines(path))]:
                lines.update(places)
                seen.update(line for place, line in enumerate(places, first) if any(self._seen[place : place + 1]))
            yield relative, sorted(lines - seen)

    def _count_imported(self) -> None:
        plain = _Loader.get_code

        def get_code(loader: Any, fullname: str) -> CodeType | None:  # noqa: ANN401  # any loader
            path = os.path.realpath(loader.get_filename(fullname))
            if type(loader) is not _Loader:  # it makes other code of it
                self._beyond |= {path} & self._paths.keys()
            return self._compiled(path) or plain(loader, fullname)

        _Loader.get_code = get_code  # type: ignore[assignment,method-assign]

    def _count_run(self) -> None:
        """Files that are run as programs, by ``runpy.run_path``."""
        plain = runpy._get_code_from_file  # type: ignore[attr-defined]  # noqa: SLF001

        def get_code_from_file(*names: str) -> Any:  # noqa: ANN401  # Python >= 3.12: code; before: code and name
            found = plain(*names)
            code = self._compiled(os.path.realpath(names[-1]))
            if code is None:
                return found
            return (code, *found[1:]) if isinstance(found, tuple) else code

        runpy._get_code_from_file = get_code_from_file  # type: ignore[attr-defined]  # noqa: SLF001

    def _count_rewritten(self) -> None:
        """Modules that pytest loads itself, to rewrite their assertions."""
        from _pytest.assertion import rewrite  # noqa: PLC0415  # it may load the component

        plain = rewrite.rewrite_asserts

        def rewrite_asserts(tree: ast.Module, source: bytes, path: Any = None, config: Any = None) -> None:  # noqa: ANN401
            place = os.path.realpath(path) if path else ""
            if place in self._paths and place not in self._beyond:
                self._put_into(tree, place)
            plain(tree, source, path, config)

        rewrite.rewrite_asserts = rewrite_asserts  # type: ignore[assignment]

    def _compiled(self, path: str) -> CodeType | None:
        """Code with counters, or ``None`` where there is nothing to count, or the loader is to say what is wrong."""
        if path not in self._paths or path in self._beyond:
            return None
        try:
            source = _read(path)
            if path in self._code:
                # Where its lines are no longer what they were, only the first ones count.
                return self._code[path][1] if self._code[path][0] == source else None
            tree = ast.parse(source)
            self._put_into(tree, path)
            code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None
        self._code[path] = source, code
        return code

    def _put_into(self, tree: ast.Module, path: str) -> None:
        lines = _Counters(tree, len(self._seen)).lines
        self._counters.setdefault(path, []).append((len(self._seen), lines))
        self._seen.extend(bytes(len(lines)))


class _Counters:
    """Puts counters into a tree, numbered from ``first`` on; ``lines`` are what they stand for."""

    def __init__(self, tree: ast.Module, first: int) -> None:
        self._first = first
        self._shared = set(_headers(tree))
        self._numbers: dict[int, int] = {}
        self._block(tree.body, counted=True)

    @property
    def lines(self) -> list[int]:
        return list(self._numbers)

    def _block(self, statements: list[ast.stmt], *, counted: bool) -> None:
        found: list[ast.stmt] = []
        for statement in statements:
            if counted and _comparable(statement) and statement.lineno not in self._shared:
                found.append(self._counter(statement))
            found.append(statement)
            self._below(statement, counted=counted)
        statements[:] = found

    def _below(self, node: ast.AST, *, counted: bool) -> None:
        if isinstance(node, ast.ClassDef):
            counted = False
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            counted = not any(_name(each) in _COMPILERS for each in node.decorator_list)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                self._block(block, counted=counted)
        for each in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            self._below(each, counted=counted)

    def _counter(self, statement: ast.stmt) -> ast.stmt:
        number = self._numbers.setdefault(statement.lineno, len(self._numbers))
        table, place = ast.Name(_NAME, ast.Load()), ast.Constant(self._first + number)
        counter = ast.Assign([ast.Subscript(table, place, ast.Store())], ast.Constant(1))
        for node in (counter, *ast.walk(counter)):
            ast.copy_location(node, statement)
        return counter


def _comparable(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.AnnAssign):
        return statement.value is not None
    if isinstance(statement, ast.ImportFrom):
        return statement.module != "__future__"
    return isinstance(statement, _SIMPLE)


def _headers(tree: ast.Module) -> Iterator[int]:
    """Lines where something else than a simple statement begins."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) or (isinstance(node, ast.stmt) and not isinstance(node, _SIMPLE)):
            yield node.lineno
            yield from (each.lineno for each in getattr(node, "decorator_list", ()))
        yield from (case.pattern.lineno for case in getattr(node, "cases", ()))


def _name(decorator: ast.expr) -> str:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    return decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")


def _lines(path: str) -> list[int]:
    try:
        return _Counters(ast.parse(_read(path)), 0).lines
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def _loaded_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            yield file
