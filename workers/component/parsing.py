"""Parsers for texts that anybody may have written: bounded, and with one kind of error for all that is wrong."""

from __future__ import annotations

import ast
import tomllib
import warnings
from typing import Any

#: Larger files are data; a syntax tree takes up to 700 times the memory of its source.
MAX_SOURCE_BYTES = 1 << 20
#: Deepest syntax tree that recursive code of ours can work on, under Python's own limit of calls in calls.
MAX_DEPTH = 100
#: Longest TOML document, in characters, and most dots in a line of it: parsing a dotted key takes the square of its
#: length.
MAX_TOML, MAX_DOTS = 256 << 10, 1000


def python(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a Python file; walk it without recursion, or see :func:`shallow`.

    Raises:
        SyntaxError: It does not parse, is nested too deeply for Python's parser, is too large, or holds null bytes.
    """
    if len(source) > MAX_SOURCE_BYTES:
        raise SyntaxError(f"it has more than {MAX_SOURCE_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about somebody else's code
            return ast.parse(source)
    except (RecursionError, MemoryError):
        raise SyntaxError("it is nested too deeply") from None
    except ValueError as error:
        raise SyntaxError(str(error)) from error


def shallow(tree: ast.Module) -> ast.Module:
    """Return ``tree`` if recursive code can work on it.

    Raises:
        SyntaxError: It has nodes deeper than :data:`MAX_DEPTH`.
    """
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise SyntaxError("it is nested too deeply")


def toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML document.

    Raises:
        ValueError: It does not parse, is nested too deeply, or too large.
    """
    if len(text) > MAX_TOML or any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise ValueError("it is too large")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
