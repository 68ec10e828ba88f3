"""Which private parts of a module a public one leads to, read from the source."""

from __future__ import annotations

import ast

Function = ast.FunctionDef | ast.AsyncFunctionDef


def private_lines(tree: ast.Module) -> dict[str, frozenset[int]]:
    """Lines of the private functions and methods that each function or method may reach: label -> lines.

    A guess by name, good enough to know where a search should go on: ``self._step()`` leads to every ``_step``.
    """
    nodes = _labelled(tree)
    by_name: dict[str, list[str]] = {}
    for label in nodes:
        owner, _, member = label.rpartition(".")
        if member.startswith("_") or owner.startswith("_"):
            by_name.setdefault(member, []).append(label)
            if member == "__init__":
                by_name.setdefault(owner, []).append(label)
    edges = {label: {to for name in _mentions(node) for to in by_name.get(name, ())} for label, node in nodes.items()}
    return {label: _lines_from(label, edges, nodes) for label in nodes}


def _lines_from(label: str, edges: dict[str, set[str]], nodes: dict[str, Function]) -> frozenset[int]:
    seen, todo = {label}, [label]
    while todo:
        for to in edges[todo.pop()] - seen:
            seen.add(to)
            todo.append(to)
    return frozenset(line for to in seen - {label} for line in _body_lines(nodes[to]))


def _labelled(tree: ast.Module) -> dict[str, Function]:
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found.update({f"{node.name}.{member.name}": member for member in node.body if isinstance(member, Function)})
    return found


def _mentions(node: ast.AST) -> set[str]:
    names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
    return names | {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}


def _body_lines(node: Function) -> set[int]:
    documented = ast.get_docstring(node, clean=False) is not None
    return {
        item.lineno
        for statement in node.body[documented:]
        for item in ast.walk(statement)
        if isinstance(item, ast.stmt) and not isinstance(item, (ast.Global, ast.Nonlocal))
    }
