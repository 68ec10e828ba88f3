"""Tests that say what another one says already. Exact: nothing is guessed from likeness."""

from __future__ import annotations

import ast
import contextlib
import copy
from collections.abc import Iterator
from pathlib import PurePosixPath

from tta_tasks.foreign import ForeignTree
from workers.acceptance.source import TestFile, TestFunction
from workers.component import parsing


def existing_tests(tree: ForeignTree, folder: PurePosixPath) -> dict[str, str]:
    """Meaning -> name of every test below ``folder`` of ``tree``; files that do not parse have none."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):  # more than can be looked through
        for file in tree.files("*.py", folder):
            with contextlib.suppress(SyntaxError, UnicodeDecodeError, OSError):
                source = tree.read_text(file.path, max_bytes=parsing.MAX_SOURCE_BYTES)
                name = PurePosixPath(file.path).relative_to(folder).as_posix()
                for meaning, function in meanings(TestFile(source), file.path):
                    found.setdefault(meaning, f"{name}::{function.key}")
    return found


def meanings(file: TestFile, place: str) -> Iterator[tuple[str, TestFunction]]:
    """Each test with a text that is equal for tests that do the same.

    Names and docstrings do not count; imported names stand for what they are imported from; names that the file itself
    defines are equal to nothing elsewhere.

    Args:
        file: The tests.
        place: Where they are; tells apart what only one file knows.
    """
    names = dict(_origins(file.tree, place))
    for function in file.functions.values():
        node = function.node
        owner = f"{place}:{function.owner.name}" if function.owner and _has_state(function.owner) else ""
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        parts = [node.args, *node.decorator_list, *body]
        yield owner + ";".join(_dump(part, names) for part in parts), function


def _has_state(owner: ast.ClassDef) -> bool:
    return bool(owner.bases) or not all(
        isinstance(member, ast.FunctionDef) and member.name.startswith("test") for member in owner.body
    )


def _origins(tree: ast.Module, place: str) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else ""
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, f"{origin if not node.level else place + origin}.{alias.name}"
        else:
            for defined in ast.walk(node):
                if isinstance(defined, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    yield defined.name, f"{place}:{defined.name}"
                elif isinstance(defined, ast.Name) and isinstance(defined.ctx, ast.Store) and node in tree.body:
                    yield from _module_level(node, defined, place)


def _module_level(statement: ast.stmt, name: ast.Name, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        yield name.id, f"{place}:{name.id}"


class _Resolve(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Imported names become what they stand for."""
        return ast.Name(self.names.get(node.id) or node.id, node.ctx)


def _dump(node: ast.AST, names: dict[str, str]) -> str:
    return ast.dump(_Resolve(names).visit(copy.deepcopy(node)))
