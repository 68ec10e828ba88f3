"""What kind of value a parameter wants, guessed from annotation, default, name, and how the function uses it."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import ast
import enum
import inspect
import re
import typing
from typing import Any

#: Methods that tell the kind of what they are called on.
_METHODS = {
    "str": {
        "lower", "upper", "strip", "split", "startswith", "endswith", "encode", "title", "isdigit", "partition",
        "splitlines", "lstrip", "rstrip", "capitalize", "isalpha", "casefold", "zfill", "format", "rsplit", "isascii",
    },
    "dict": {"items", "keys", "get", "setdefault"},
    "list": {"append", "extend", "insert", "sort", "reverse"},
    "set": {"add", "union", "intersection", "difference", "issubset"},
    "bytes": {"decode", "hex"},
    "path": {"exists", "read_text", "is_file", "iterdir", "write_text"},
    "file": {"read", "readline", "write", "seek"},
    "datetime": {"isoformat", "strftime", "astimezone", "timestamp", "tzinfo"},
}  # fmt: skip
#: Words in a parameter's name.
_NAMES = {
    "str": "text string name word s str value key prefix suffix sep separator title label line msg message pattern "
    "token version specifier filename",
    "int": "n num number count size width length index idx i j k start stop step limit max min depth level position "
    "value x y digits precision places",
    "float": "x y value number ratio factor rate amount price",
    "bool": "flag strict force reverse is_ allow use_ ignore",
    "callable": "func fn f function callback predicate pred key op binop keyfunc factory",
    "list": "items values iterable seq sequence list lst xs elements options args data words lines",
    "dict": "d dict mapping kwargs options config data dicts obj",
    "path": "path filename file dir directory folder",
    "datetime": "date dt datetime when moment timestamp day",
}
_CALLS = {
    "int": "int", "float": "float", "len": "list", "sorted": "list", "sum": "list", "iter": "list", "enumerate": "list",
    "abs": "int", "round": "float", "range": "int", "ord": "str", "open": "path", "dict": "dict", "set": "list",
    "list": "list", "tuple": "list", "reversed": "list", "max": "list", "min": "list", "zip": "list", "map": "list",
}  # fmt: skip
_TYPES = {
    "int": "int", "float": "float", "str": "str", "bool": "bool", "bytes": "bytes", "list": "list", "tuple": "tuple",
    "dict": "dict", "set": "set", "frozenset": "set", "complex": "float", "type": "type", "bytearray": "bytes",
    "Callable": "callable", "Iterable": "list", "Sequence": "list", "Iterator": "iterator", "Mapping": "dict",
    "MutableMapping": "dict", "Collection": "list", "Path": "path", "PathLike": "path", "Any": "any", "object": "any",
    "datetime": "datetime", "date": "date", "timedelta": "timedelta", "Decimal": "decimal", "Fraction": "fraction",
    "Pattern": "pattern", "IO": "file", "TextIO": "file", "BinaryIO": "file", "Set": "set", "AbstractSet": "set",
    "Number": "float", "Hashable": "str", "Text": "str", "List": "list", "Dict": "dict", "Tuple": "tuple",
    "None": "none", "NoneType": "none", "Generator": "iterator", "Optional": "none", "AnyStr": "str",
    "SupportsFloat": "float", "SupportsInt": "int", "slice": "slice", "range": "list", "Real": "float",
    "Integral": "int", "UUID": "uuid", "time": "time", "Literal": "literal", "Enum": "enum", "Type": "type",
}  # fmt: skip


def kinds_of_annotation(annotation: Any, scope: dict[str, Any]) -> list[str]:
    """Kinds of values an annotation allows, most specific first; classes of the module as ``instance:Name``."""
    if annotation is inspect.Parameter.empty:
        return []
    if isinstance(annotation, str):
        return _kinds_of_text(annotation, scope)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return [f"value:{value!r}" for value in typing.get_args(annotation)]
    if getattr(origin, "__name__", "") in {"Union", "UnionType", "Annotated", "Optional"}:
        return _unique(kind for item in typing.get_args(annotation) for kind in kinds_of_annotation(item, scope))
    return _kinds_of_class(annotation if origin is None else origin)


def _kinds_of_class(annotation: Any) -> list[str]:
    name = getattr(annotation, "__name__", "") or getattr(annotation, "_name", "") or ""
    if isinstance(annotation, typing.TypeVar):
        bound = annotation.__bound__
        return kinds_of_annotation(bound, {}) if bound else ["any"]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [f"enum:{name}"]
    if annotation is None or annotation is type(None):
        return ["none"]
    return [_TYPES[name]] if name in _TYPES else [f"instance:{name}"] if name else ["any"]


def _kinds_of_text(annotation: str, scope: dict[str, Any]) -> list[str]:
    try:
        return kinds_of_annotation(eval(annotation, dict(scope)), scope)  # noqa: S307 - inside the sandbox
    except Exception:  # noqa: BLE001 - names that exist for type checkers only
        literals = re.findall(r"Literal\[([^\]]*)\]", annotation)
        values = [f"value:{text.strip()}" for group in literals for text in group.split(",")]
        # Only the outer names say what the value is: the insides of brackets say what it holds.
        outer = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", annotation))
        inner = annotation if outer.strip() in {"t.Optional", "Optional", "t.Union", "Union"} else outer
        words = re.findall(r"[A-Za-z_]\w*", inner)
        return values + _unique(_TYPES.get(word, f"instance:{word}") for word in words if word not in {"t", "typing"})


def kinds_of_use(function: ast.AST | None, name: str) -> list[str]:
    """Kinds of values that the body of ``function`` treats its parameter ``name`` as, most evident first."""
    votes: dict[str, int] = {}

    def vote(kind: str, weight: int = 1) -> None:
        votes[kind] = votes.get(kind, 0) + weight

    for node in ast.walk(function) if function else ():
        _vote(node, name, vote)
    return sorted(votes, key=lambda kind: -votes[kind])


def _vote(node: ast.AST, name: str, vote: typing.Callable[..., None]) -> None:
    def mine(item: ast.AST) -> bool:
        return _is_name(item, name)

    _vote_operator(node, mine, vote)
    if isinstance(node, ast.Attribute) and mine(node.value):
        for kind in [kind for kind, methods in _METHODS.items() if node.attr in methods]:
            vote(kind, 3)
    elif isinstance(node, ast.Call):
        _vote_call(node, mine, vote)
    elif isinstance(node, (ast.For, ast.comprehension)) and mine(node.iter):
        vote("list", 2)
    elif isinstance(node, ast.Subscript) and mine(node.value):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else 0
        vote("dict" if isinstance(key, str) else "list", 2)


def _vote_operator(node: ast.AST, mine: typing.Callable[[ast.AST], bool], vote: typing.Callable[..., None]) -> None:
    if isinstance(node, ast.BinOp) and (mine(node.left) or mine(node.right)):
        other = node.right if mine(node.left) else node.left
        text = isinstance(other, (ast.JoinedStr, ast.Constant)) and isinstance(getattr(other, "value", ""), str)
        for kind in ["str"] if text else ["int", "float"]:
            vote(kind)
    elif isinstance(node, ast.Compare) and mine(node.left):
        constants = [item.value for item in node.comparators if isinstance(item, ast.Constant)]
        for value in constants:
            vote(_TYPES.get(type(value).__name__, "any"), 2 if value is not None else 0)


def _vote_call(node: ast.Call, mine: typing.Callable[[ast.AST], bool], vote: typing.Callable[..., None]) -> None:
    if mine(node.func):
        vote("callable", 4)
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if called == "isinstance" and len(node.args) > 1 and mine(node.args[0]):
        for item in ast.walk(node.args[1]):
            if isinstance(item, ast.Name):
                vote(_TYPES.get(item.id, f"instance:{item.id}"), 3)
    elif any(mine(argument) for argument in node.args):
        if called in _CALLS:
            vote(_CALLS[called], 2)
        elif called in {"sub", "match", "search", "fullmatch", "findall", "split", "finditer", "normalize"}:
            vote("str", 3)


def keys_of_use(function: ast.AST | None, name: str) -> list[str]:
    """Text keys that the body of ``function`` looks up in its parameter ``name``."""
    keys: dict[str, None] = {}
    for node in ast.walk(function) if function else ():
        found: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and _is_name(node.value, name):
            found = [node.slice]
        elif isinstance(node, ast.Compare) and any(_is_name(item, name) for item in node.comparators):
            found = [node.left]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_name(node.func.value, name):
            found = node.args[:1]
        keys.update({key.value: None for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)})
    return list(keys)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def kinds_of_name(name: str) -> list[str]:
    """Kinds that a parameter's name suggests."""
    words = set(re.split(r"_+", name.lower())) | {name.lower(), name.lower().rstrip("s")}
    return [kind for kind, known in _NAMES.items() if words & set(known.split())]


def _unique(items: typing.Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
