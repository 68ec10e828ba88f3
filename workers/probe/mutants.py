"""Small faults, put into the functions of a module one at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Mutant:
    """One fault: ``owner.field`` (or its element ``index``) becomes ``new``."""

    line: int
    operator: str
    owner: ast.AST
    field: str
    index: int | None
    new: ast.AST

    def compile(self, tree: ast.Module, filename: str) -> CodeType:
        """The module's code with this fault; the tree is as before afterwards."""
        holder = getattr(self.owner, self.field)
        if self.index is None:
            setattr(self.owner, self.field, self.new)
        else:
            holder[self.index], old = self.new, holder[self.index]
        try:
            return compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)
        finally:
            if self.index is None:
                setattr(self.owner, self.field, holder)
            else:
                holder[self.index] = old


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """All mutants of the functions in ``tree``, in the order of the source.

    Only bodies of functions: defaults, decorators, annotations and what runs on import are left alone.
    """
    for node in ast.iter_child_nodes(tree):
        yield from _functions(node)


def _functions(node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, _FUNCTIONS):
        yield from _block(node, "body", node.lineno)
        return
    for child in ast.iter_child_nodes(node):
        yield from _functions(child)


def _block(owner: ast.AST, field: str, line: int) -> Iterator[Mutant]:
    """Mutants of the elements and of what is below them."""
    value = getattr(owner, field)
    children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    for index, child in children:
        if not isinstance(child, ast.AST) or _docstring(owner, field, index, child):
            continue
        here = child.lineno if isinstance(child, ast.stmt) else line
        for operator, new in _faults(child):
            yield Mutant(here, operator, owner, field, index, ast.copy_location(new, child))
        yield from _below(child, here)


def _below(node: ast.AST, line: int) -> Iterator[Mutant]:
    if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)):
        return
    skipped = {"annotation", "returns", "decorator_list", "args", "type_params", "type_comment", "ctx"}
    fields = node._fields if not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)) else ("body",)
    skipped -= {"args"} if isinstance(node, ast.Call) else set()
    for field in fields:
        if field not in skipped and isinstance(getattr(node, field, None), (ast.AST, list)):
            yield from _block(node, field, line)


def _docstring(owner: ast.AST, field: str, index: int | None, child: ast.AST) -> bool:
    return (
        isinstance(owner, (*_FUNCTIONS, ast.ClassDef))
        and (field, index) == ("body", 0)
        and isinstance(child, ast.Expr)
        and isinstance(child.value, ast.Constant)
    )


def _faults(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if type(node) in _SWAPPED:
        new = _SWAPPED[type(node)]()
        yield f"{type(node).__name__} -> {type(new).__name__}", new
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.UnaryOp):
        yield f"drop {type(node.op).__name__}", node.operand
    elif isinstance(node, (ast.If, ast.IfExp)):
        negated = copy.copy(node)
        negated.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        yield "negate condition", negated
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return None", ast.Return(ast.Constant(None))
    elif isinstance(node, (ast.Raise, ast.AugAssign)) or (isinstance(node, ast.Expr) and _acts(node.value)):
        yield f"delete {type(node).__name__}", ast.Pass()
    elif isinstance(node, (ast.Break, ast.Continue)):
        new = ast.Continue() if isinstance(node, ast.Break) else ast.Break()
        yield f"{type(node).__name__} -> {type(new).__name__}", new


def _acts(value: ast.expr) -> bool:
    return isinstance(value, ast.Call)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _constant(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield f"{value} -> {not value}", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield f"{value!r} -> {value + 1!r}", ast.Constant(value + 1)
    elif isinstance(value, str):
        yield "change string", ast.Constant(f"XX{value}")
