"""What a test can refer to by name, and how it gets that name."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import builtins
import sys
from types import ModuleType
from typing import Any

#: Names of the standard library that expressions may use, unless the module has one of the same name.
STANDARD = {
    "Counter": "from collections import Counter",
    "Decimal": "from decimal import Decimal",
    "Fraction": "from fractions import Fraction",
    "OrderedDict": "from collections import OrderedDict",
    "Path": "from pathlib import Path",
    "UUID": "from uuid import UUID",
    "asyncio": "import asyncio",
    "copy": "import copy",
    "datetime": "import datetime",
    "defaultdict": "from collections import defaultdict",
    "deque": "from collections import deque",
    "io": "import io",
    "islice": "from itertools import islice",
    "math": "import math",
    "pickle": "import pickle",
    "pytest": "import pytest",
    "re": "import re",
}
#: Bound when a case runs, by pytest or by the program itself.
BOUND = {"tmp_path", "capsys", "sample", "result", "value"}


class Names:
    """The public names of the module under test, and those of the standard library that do not collide with them."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self._imports: dict[str, str] = {}
        self.namespace: dict[str, Any] = {}
        for name in self.public():
            self._bind(name, f"from {module.__name__} import {name}", getattr(module, name))

    def public(self) -> list[str]:
        """Names the module offers: its ``__all__``, and what it defines without a leading underscore."""
        declared = getattr(self.module, "__all__", ())
        declared = [name for name in declared if isinstance(name, str)] if isinstance(declared, (list, tuple)) else []
        own = [name for name, value in vars(self.module).items() if not name.startswith("_") and self.owns(value)]
        return sorted({name for name in (*declared, *own) if name.isidentifier() and hasattr(self.module, name)})

    def owns(self, value: Any) -> bool:
        """Whether the module itself defines ``value``, as far as that can be told."""
        if isinstance(value, ModuleType):
            return False
        origin = getattr(value, "__module__", None)
        if isinstance(origin, str) and (isinstance(value, type) or hasattr(value, "__qualname__")):
            return origin == self.module.__name__
        return origin == self.module.__name__ or type(value).__module__ in {"builtins", "re", "functools"}

    def _bind(self, name: str, statement: str, value: Any) -> None:
        self._imports[name] = statement
        self.namespace[name] = value

    def standard(self, name: str) -> bool:
        """Make a name of the standard library usable; ``False`` where the module has another of that name."""
        if name not in STANDARD or (name in vars(self.module) and name in self._imports):
            return self._imports.get(name) == STANDARD.get(name)
        if name not in self._imports:
            scope: dict[str, Any] = {}
            exec(STANDARD[name], scope)  # noqa: S102 - one of the constant statements above
            self._bind(name, STANDARD[name], scope[name])
        return True

    def of(self, thing: Any) -> str | None:
        """A dotted name for a class, a function or an enum, importing it if need be; ``None`` where there is none."""
        origin = getattr(thing, "__module__", None)
        qualname = getattr(thing, "__qualname__", None)
        if not isinstance(origin, str) or not isinstance(qualname, str) or "<" in qualname:
            return None
        root = qualname.split(".")[0]
        if origin == "builtins":
            return qualname if getattr(builtins, root, None) is thing and root not in self._imports else None
        if root not in self._imports and not self._import(root, origin):
            return None
        return qualname if self._resolves(qualname, thing) else None

    def _import(self, root: str, origin: str) -> bool:
        home = sys.modules.get(origin)
        if root.startswith("_") or home is None or not hasattr(home, root) or hasattr(builtins, root):
            return False
        if origin == "__main__" or any(part.startswith("_") for part in origin.split(".")):
            return False
        if root in STANDARD or root in BOUND:
            return self.standard(root)
        self._bind(root, f"from {origin} import {root}", getattr(home, root))
        return True

    def _resolves(self, qualname: str, thing: Any) -> bool:
        value: Any = self.namespace
        for index, part in enumerate(qualname.split(".")):
            value = value.get(part) if index == 0 else getattr(value, part, None)
        return value is thing

    def imports(self, source: str) -> tuple[tuple[str, str], ...]:
        """The import statements that ``source`` needs."""
        used = sorted(free_names(source))
        for name in used:
            self.standard(name)
        return tuple((name, self._imports[name]) for name in used if name in self._imports)

    def knows(self, source: str) -> bool:
        """Whether every name in an expression means something here."""
        try:
            used = free_names(source)
        except (SyntaxError, ValueError, RecursionError):
            return False
        return all(
            name in self._imports or self.standard(name) or name in BOUND or hasattr(builtins, name) for name in used
        )


def free_names(source: str) -> set[str]:
    """Names an expression or some statements read, without those of its own lambdas and comprehensions."""
    tree = ast.parse(source)
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - own - stored
