"""Fills the parameters of targets with values: from examples, the module's constants, annotations and use."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import enum
import inspect
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import examples, infer, strategies, values
from .names import Names
from .source_repr import source_repr
from .targets import CallableTarget, Parameter, Vector

_MAX_CONSTANTS = 60
_MAX_TEXT = 40
_MAX_POOL = 90
_MAX_PATTERN = 3000
_HUGE = re.compile(r"-?\d{6,}|10\*\*\d+")


class SeedInputs:
    """What the module, its documentation and its tests tell about inputs.

    Args:
        names: The names of the module.
        tree: The module's source, parsed.
        project: The component's folder, for its README.
        tests: Its folder of tests.
        seed: For values drawn by Hypothesis.
    """

    def __init__(self, names: Names, tree: ast.Module, project: Path, tests: Path, seed: int) -> None:
        self._names = names
        self._seed = seed
        self._functions = _functions(tree)
        self.texts, self.numbers = _constants(tree)
        documented = [node for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)]
        docs = [ast.get_docstring(node) or "" for node in documented]
        written = [example for doc in docs for example in examples.from_text(doc)]
        written += [*examples.from_readme(project), *examples.from_tests(tests)]
        self._examples = examples.by_name(written)
        self._matching = self._pattern_samples(tree)

    def fill(self, target: CallableTarget) -> None:
        """Give a target its seeds, and each of its parameters a pool."""
        name = target.label.rpartition(".")[2]
        node = self._node_of(target)
        texts, numbers = _constants(node) if node else ([], [])
        for index, parameter in enumerate(target.parameters):
            pool = [*self._example_values(name, index, parameter)]
            pool += self._typed(parameter, node, texts, numbers, target)
            known = [source for source in dict.fromkeys(pool) if self._names.knows(source)]
            # An option that counts something (digits, width, depth) takes for ever when it is huge.
            usable = known if parameter.required else [source for source in known if not _HUGE.fullmatch(source)]
            parameter.pool = usable[:_MAX_POOL]
            if not parameter.pool:
                parameter.pool = list(values.ANY)
        target.seeds = [vector for vector in self._seeds(name, target) if vector is not None]

    def _node_of(self, target: CallableTarget) -> ast.AST | None:
        label = f"{target.label}.__init__" if target.role == "constructor" else target.label
        return self._functions.get(label)

    def _example_values(self, name: str, index: int, parameter: Parameter) -> Iterable[str]:
        for example in self._examples.get(name, ()):
            keywords = dict(example.keywords)
            if parameter.name in keywords:
                yield keywords[parameter.name]
            elif index < len(example.positional) and not parameter.variadic:
                yield example.positional[index]

    def _seeds(self, name: str, target: CallableTarget) -> Iterable[Vector | None]:
        for example in self._examples.get(name, ())[:40]:
            yield self._seed_vector(example, target)

    def _seed_vector(self, example: examples.Example, target: CallableTarget) -> Vector | None:
        keywords, positional = dict(example.keywords), list(example.positional)
        vector: list[str | None] = []
        for parameter in target.parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                vector.append(f"[{', '.join(positional)}]" if positional else None)
                positional = []
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                rest = ", ".join(f"{name!r}: {source}" for name, source in keywords.items())
                vector.append(f"{{{rest}}}" if rest else None)
                keywords = {}
            elif parameter.name in keywords:
                vector.append(keywords.pop(parameter.name))
            elif positional and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                vector.append(positional.pop(0))
            else:
                vector.append(None)
        complete = not positional and not keywords
        known = all(source is None or self._names.knows(source) for source in vector)
        return tuple(vector) if complete and known else None

    def _typed(
        self, parameter: Parameter, node: ast.AST | None, texts: list[str], numbers: list[int], target: CallableTarget
    ) -> list[str]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return list(values.STARRED)
        keyed = values.with_keys(infer.keys_of_use(node, parameter.name))
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return [*keyed, *values.DOUBLE_STARRED]
        kinds = infer.kinds_of_annotation(parameter.annotation, vars(self._names.module))
        sure = bool(kinds) and kinds not in (["any"], ["none"])
        if not sure:
            kinds += infer.kinds_of_use(node, parameter.name) + infer.kinds_of_name(parameter.name)
        if parameter.default is not inspect.Parameter.empty and parameter.default is not None:
            kinds.append(type(parameter.default).__name__)
        if target.label.endswith(("__getitem__", "__delitem__")):
            kinds.append("index")
        parameter.kinds = kinds
        pool = self._default(parameter) + keyed[:40]
        if parameter.name == "argv":
            pool += values.command_lines(self.texts)[:60]
        interleaved = [self._of_kind(kind, texts, numbers) for kind in dict.fromkeys(kinds)]
        pool += [source for group in interleaved for source in group[:4]]
        pool += [source for group in interleaved for source in group[4:]]
        if sure:
            pool += strategies.of_annotation(self._resolved(parameter), self._names, self._seed)
        else:
            pool += values.ANY
        return pool

    def _resolved(self, parameter: Parameter) -> Any:
        if not isinstance(parameter.annotation, str):
            return parameter.annotation
        try:
            return eval(parameter.annotation, dict(vars(self._names.module)))  # noqa: S307 - inside the sandbox
        except Exception:  # noqa: BLE001 - names that exist for type checkers only
            return None

    def _default(self, parameter: Parameter) -> list[str]:
        if parameter.default is inspect.Parameter.empty:
            return []
        source = source_repr(parameter.default, self._names)
        return [source] if source is not None else []

    def _of_kind(self, kind: str, texts: list[str], numbers: list[int]) -> list[str]:
        if kind == "str":
            own = [repr(text) for text in texts]
            return [
                *values.of_kind("str")[:3],
                *own,
                *self._matching,
                *values.of_kind("str")[3:],
                *map(repr, self.texts),
            ]
        if kind in {"int", "float"}:
            return [*values.of_kind(kind)[:3], *map(str, numbers), *values.of_kind(kind)[3:], *map(str, self.numbers)]
        if kind.startswith("enum:"):
            cls = self._names.namespace.get(kind[5:])
            members = list(cls) if isinstance(cls, type) and issubclass(cls, enum.Enum) else []
            return [source for member in members if (source := source_repr(member, self._names))]
        return values.of_kind(kind)

    def _pattern_samples(self, tree: ast.Module) -> list[str]:
        """Strings that the module's regular expressions match, and those with something around them."""
        module = self._names.module
        holders = [module, *(thing for thing in vars(module).values() if isinstance(thing, type))]
        compiled = [v for holder in holders for v in list(vars(holder).values()) if isinstance(v, re.Pattern)]
        compiled += _inline_patterns(tree)
        found: list[str] = []
        unique = {(p.pattern, p.flags): p for p in compiled if len(p.pattern) < _MAX_PATTERN}
        for pattern in list(unique.values())[:12]:
            samples = strategies.of_pattern(pattern, self._names, self._seed)
            found += samples[:4] + samples[-4:]
        return [source for source in dict.fromkeys(found) if len(source) <= _MAX_TEXT * 2]


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _functions(tree: ast.Module) -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found[f"{node.name}.{member.name}"] = member
    return found


def _constants(tree: ast.AST) -> tuple[list[str], list[int]]:
    """Short strings and integers in the code, without docstrings; each integer with its neighbours."""
    docs = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts: dict[str, None] = {}
    numbers: dict[int, None] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in docs:
            continue
        if isinstance(node.value, str) and 0 < len(node.value) <= _MAX_TEXT:
            texts[node.value] = None
        elif type(node.value) is int and abs(node.value) < 10**12:
            numbers.update(dict.fromkeys((node.value, node.value + 1, node.value - 1)))
    return list(texts)[:_MAX_CONSTANTS], list(numbers)[:_MAX_CONSTANTS]


def _inline_patterns(tree: ast.Module) -> list[re.Pattern[str]]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.func, ast.Attribute):
            continue
        first = node.args[0]
        text = first.value if isinstance(first, ast.Constant) else None
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and isinstance(text, str):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found.append(re.compile(text))
            except (re.error, OverflowError):
                continue
    return found
