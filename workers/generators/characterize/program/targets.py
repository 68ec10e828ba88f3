"""What there is to call: public functions, classes, their methods, properties and operators."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import asyncio
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from .case import Argument, Call
from .names import Names
from .tracer import all_codes

#: An expression for each parameter; ``None`` leaves it out.
Vector = tuple["str | None", ...]

#: How the special methods are written by a person.
OPERATORS: dict[str, tuple[str, bool]] = {
    "__len__": ("len({self})", False),
    "__contains__": ("{0} in {self}", False),
    "__getitem__": ("{self}[{0}]", False),
    "__setitem__": ("{self}[{0}] = {1}", True),
    "__delitem__": ("del {self}[{0}]", True),
    "__iter__": ("iter({self})", False),
    "__reversed__": ("reversed({self})", False),
    "__call__": ("{self}({args})", False),
    "__str__": ("str({self})", False),
    "__repr__": ("repr({self})", False),
    "__bool__": ("bool({self})", False),
    "__int__": ("int({self})", False),
    "__float__": ("float({self})", False),
    "__index__": ("range({self})", False),
    "__hash__": ("hash({self}) == hash({self})", False),
    "__abs__": ("abs({self})", False),
    "__neg__": ("-{self}", False),
    "__pos__": ("+{self}", False),
    "__invert__": ("~{self}", False),
    "__enter__": ("{self}", False),
    "__copy__": ("copy.copy({self})", False),
    "__deepcopy__": ("copy.deepcopy({self})", False),
    "__reduce__": ("pickle.loads(pickle.dumps({self}))", False),
    "__getstate__": ("pickle.loads(pickle.dumps({self}))", False),
    "__format__": ("format({self}, {0})", False),
    "__round__": ("round({self}, {0})", False),
    "__next__": ("next({self})", False),
    "__bytes__": ("bytes({self})", False),
    "__divmod__": ("divmod({self}, {0})", False),
    "__ceil__": ("math.ceil({self})", False),
    "__floor__": ("math.floor({self})", False),
    "__trunc__": ("math.trunc({self})", False),
    "__replace__": ("{self}.__replace__({args})", False),
    "__fspath__": ("{self}.__fspath__()", False),
    "__missing__": ("{self}.__missing__({args})", False),
}
for _name, _sign in {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "add": "+", "sub": "-", "mul": "*",
    "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "and": "&", "or": "|", "xor": "^", "matmul": "@",
    "lshift": "<<", "rshift": ">>",
}.items():  # fmt: skip
    OPERATORS[f"__{_name}__"] = (f"{{self}} {_sign} {{0}}", False)
    OPERATORS[f"__r{_name}__"] = (f"{{0}} {_sign} {{self}}", False)
    OPERATORS[f"__i{_name}__"] = (f"{{self}} {_sign}= {{0}}", True)


@dataclass
class Parameter:
    """A parameter and what it may be given."""

    name: str
    kind: inspect._ParameterKind
    required: bool
    default: Any = inspect.Parameter.empty
    annotation: Any = inspect.Parameter.empty
    pool: list[str] = field(default_factory=list)
    #: What is thought to fit, see :mod:`.infer`.
    kinds: list[str] = field(default_factory=list)

    @property
    def variadic(self) -> bool:
        """``*args`` or ``**kwargs``."""
        return self.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@dataclass
class CallableTarget:
    """Something to call, and what is known of it so far."""

    label: str
    #: See :class:`~.case.Call`.
    template: str
    function: Callable[..., Any] | None
    parameters: list[Parameter]
    statement: bool = False
    #: The class it is called on an instance of, or that it makes an instance of.
    owner: type | None = None
    #: ``function``, ``constructor``, ``factory`` (static and class methods) or ``method``.
    role: str = "function"
    #: Lines of its body.
    lines: frozenset[int] = frozenset()
    #: Inputs that were worth it: ``(receiver, vector)``.
    corpus: list[tuple[str, Vector]] = field(default_factory=list)
    seeds: list[Vector] = field(default_factory=list)

    def call(self, vector: Vector) -> Call:
        """The call with these arguments."""
        arguments, keywords_only = [], False
        for parameter, source in zip(self.parameters, vector, strict=True):
            if source is None:
                keywords_only = keywords_only or not parameter.variadic
                continue
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                if keywords_only or source == "[]":
                    continue
                style = "*"
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                if source == "{}":
                    continue
                style = "**"
            elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
                (parameter.required or parameter is self.parameters[0])
                and not keywords_only
                and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            ):
                style = "positional"
            else:
                style, keywords_only = "keyword", True
            arguments.append(Argument(parameter.name, source, style))
        return Call(self.template, tuple(arguments), self.statement)

    def vector(self, call: Call) -> Vector:
        """The inverse of :meth:`call`."""
        sources = {argument.name: argument.source for argument in call.arguments}
        return tuple(sources.get(parameter.name) for parameter in self.parameters)


def discover(names: Names) -> list[CallableTarget]:
    """The targets of a module, functions and constructors first, in the order of their names."""
    module = names.module
    found: list[CallableTarget] = []
    for name in names.public():
        thing = getattr(module, name)
        if inspect.isclass(thing):
            if thing.__module__ == module.__name__:
                found += _of_class(thing, name)
        elif callable(thing) and _defined_in(thing, module.__name__):
            template = f"{name}({{args}})"
            if asyncio.iscoroutinefunction(thing) or inspect.iscoroutinefunction(thing):
                template = f"asyncio.run({template})"
            found.append(CallableTarget(name, template, thing, _parameters(thing, 0), lines=_lines(thing)))
    for name in {word for target in found for word in re.findall(r"\b[a-z]+(?=\.)", target.template)}:
        names.standard(name)
    return sorted(found, key=lambda target: ("constructor", "factory", "function", "method").index(target.role))


def _defined_in(thing: Any, module: str) -> bool:
    return getattr(thing, "__module__", None) == module or getattr(type(thing), "__module__", None) == module


def _of_class(cls: type, name: str) -> Iterator[CallableTarget]:
    if not issubclass(cls, enum.Enum) and not inspect.isabstract(cls) and _worth_making(cls):
        initialiser = cls.__dict__.get("__init__") or cls.__dict__.get("__new__")
        lines = _lines(initialiser) | _lines(getattr(cls.__dict__.get("__new__"), "__func__", None))
        yield CallableTarget(
            name, f"{name}({{args}})", cls, _parameters(cls, 0), owner=cls, role="constructor", lines=lines
        )
    members = _members(cls)
    if issubclass(cls, BaseException):
        members = {k: v for k, v in members.items() if not k.startswith("__") or k == "__str__"}
    for attribute, member in sorted(members.items()):
        yield from _of_member(cls, name, attribute, member)


def _worth_making(cls: type) -> bool:
    """Whether making an instance runs code of the module, or leads to some; a bare exception class does not."""
    return not issubclass(cls, BaseException) or any(name in vars(cls) for name in ("__init__", "__new__", "__str__"))


def _members(cls: type) -> dict[str, Any]:
    """What a class defines itself, and what it has from private bases of its module."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is cls or (base.__module__ == cls.__module__ and base.__name__.startswith("_")):
            members |= vars(base)
    return members


def _of_member(cls: type, name: str, attribute: str, member: Any) -> Iterator[CallableTarget]:
    label = f"{name}.{attribute}"
    if attribute in OPERATORS and inspect.isfunction(member):
        yield from _of_operator(cls, label, member)
    elif attribute.startswith("_"):
        return
    elif isinstance(member, (staticmethod, classmethod)):
        bound = getattr(cls, attribute)
        template = f"{label}({{args}})"
        yield CallableTarget(
            label, template, bound, _parameters(bound, 0), owner=cls, role="factory", lines=_lines(bound)
        )
    elif isinstance(member, property):
        yield from _of_property(cls, label, member)
    elif inspect.isroutine(member) and inspect.isfunction(inspect.unwrap(member)):
        template = f"{{self}}.{attribute}({{args}})"
        if inspect.iscoroutinefunction(member):
            template = f"asyncio.run({template})"
        yield _method(cls, label, template, member, _parameters(member, 1))
    elif hasattr(member, "__get__") and hasattr(member, "func"):
        # functools.cached_property and its like.
        yield _method(cls, label, f"{{self}}.{attribute}", member.func, [])


def _of_operator(cls: type, label: str, member: Any) -> Iterator[CallableTarget]:
    if inspect.unwrap(member).__code__.co_filename.startswith("<"):
        return  # made by a decorator such as dataclass
    template, statement = OPERATORS[label.rpartition(".")[2]]
    parameters = _parameters(member, 1) if "{args}" in template else _operands(member, template)
    yield _method(cls, label, template, member, parameters, statement=statement)


def _of_property(cls: type, label: str, member: property) -> Iterator[CallableTarget]:
    template = f"{{self}}.{label.rpartition('.')[2]}"
    yield _method(cls, label, template, member.fget, [])
    if member.fset is not None:
        yield _method(cls, label, f"{template} = {{0}}", member.fset, _parameters(member.fset, 1), statement=True)


def _method(
    cls: type, label: str, template: str, function: Any, parameters: list[Parameter], *, statement: bool = False
) -> CallableTarget:
    return CallableTarget(label, template, function, parameters, statement, cls, "method", _lines(function))


def _operands(member: Any, template: str) -> list[Parameter]:
    count = template.count("{0}") + template.count("{1}")
    found = [p for p in _parameters(member, 1) if not p.variadic][:count]
    return found if len(found) == count else [_plain(f"operand{index}") for index in range(count)]


def _plain(name: str) -> Parameter:
    return Parameter(name, inspect.Parameter.POSITIONAL_ONLY, required=True)


def _parameters(function: Any, skip: int) -> list[Parameter]:
    try:
        declared = list(inspect.signature(function).parameters.values())[skip:]
    except (ValueError, TypeError):
        return []
    return [
        Parameter(
            p.name,
            p.kind,
            p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD},
            p.default,
            p.annotation,
        )
        for p in declared
    ]


def _lines(function: Any) -> frozenset[int]:
    """The lines of a function's body, without its ``def``."""
    try:
        code = inspect.unwrap(function).__code__ if function is not None else None
    except (AttributeError, ValueError):
        return frozenset()
    if not isinstance(code, CodeType):
        return frozenset()
    lines = {line for item in all_codes(code) for _, _, line in item.co_lines() if line}
    return frozenset(lines - {code.co_firstlineno})
