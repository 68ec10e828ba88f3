"""A recorded behaviour: a call, what it is made on, and what was seen. Plain data, written as JSON lines."""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Stands for the receiver, in templates and subjects.
SELF = "{self}"
#: Stands for what the call returned, in subjects.
RESULT = "{result}"


_OPERATOR = re.compile(r"^lambda|^-|\*\*|\s(?:if|and|or|not|in|is|[-+*/%&|^<>]|==)\s")
#: Templates in which an operand stands between brackets or after ``=`` already.
_BRACKETED = re.compile(r".*\(.*\{0\}\)|.*\[\{0\}\]|.* = \{0\}")


@dataclass(frozen=True)
class Argument:
    """One argument of a call."""

    #: The parameter's own name.
    name: str
    #: A Python expression.
    source: str
    #: ``positional``, ``keyword``, ``*`` or ``**``.
    style: str = "positional"

    def passed(self, source: str | None = None) -> str:
        """How it is written between the call's parentheses, with another expression if one is given."""
        text = self.source if source is None else source
        if self.style == "keyword":
            return f"{self.name}={text}"
        if self.style == "positional":
            return text
        return (_spread(text) if source is None or source == self.source else "") or f"{self.style}{text}"


def _spread(source: str) -> str:
    """The items of a list or a dict display as one would pass them; empty where that is not possible."""
    tree = ast.parse(source, mode="eval").body
    if isinstance(tree, ast.List):
        return ", ".join(ast.unparse(item) for item in tree.elts)
    if not isinstance(tree, ast.Dict):
        return ""
    keys = [key.value for key in tree.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    if len(keys) < len(tree.keys) or not all(key.isidentifier() and not keyword.iskeyword(key) for key in keys):
        return ""
    return ", ".join(f"{key}={ast.unparse(value)}" for key, value in zip(keys, tree.values, strict=True))


@dataclass(frozen=True)
class Call:
    """A call, an attribute read, an operator or an assignment.

    ``template`` holds ``{self}`` for the receiver, and ``{args}`` for all arguments or ``{0}``, ``{1}`` for one.
    """

    template: str
    arguments: tuple[Argument, ...] = ()
    #: Whether it has no value (``del x[0]``, ``x.y = 1``).
    statement: bool = False

    def source(self, receiver: str = "", values: dict[str, str] | None = None) -> str:
        """Its source, with expressions in ``values`` in place of the arguments of these names."""
        values = values or {}
        texts = [values.get(argument.name, argument.source) for argument in self.arguments]
        passed = ", ".join(a.passed(text) for a, text in zip(self.arguments, texts, strict=True))
        source = self.template.replace(SELF, receiver).replace("{args}", passed)
        for index, text in enumerate(texts):
            # Operands of an operator: what binds less tightly than any of them needs parentheses.
            operand = f"({text})" if _OPERATOR.search(text) and not _BRACKETED.fullmatch(self.template) else text
            source = source.replace(f"{{{index}}}", operand)
        return source


@dataclass(frozen=True)
class Assertion:
    """One observation: ``subject`` compared with ``expected``.

    ``how`` is ``equal``, ``is``, ``approx``, ``nan``, ``list`` (all it yields), ``head`` (the first
    :data:`HEAD` it yields), ``text`` (its ``str``), ``type``, ``enter`` (what a context manager gives) or ``prints``.
    """

    how: str
    subject: str
    expected: str


#: How much of an iterator is looked at.
HEAD = 10


@dataclass(frozen=True)
class Case:
    """One behaviour of one target."""

    #: ``function``, ``Class``, ``Class.method``.
    target: str
    call: Call
    #: Expression that makes the receiver; empty for functions and constructors.
    receiver: str = ""
    #: Calls made on the receiver before.
    history: tuple[Call, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    #: Exception it ends with, and a part of its message; no assertions then.
    raises: str = ""
    message: str = ""
    #: What the names in it stand for: name -> import statement.
    imports: tuple[tuple[str, str], ...] = ()
    #: Lines and jumps of the module it runs through, as opaque keys.
    features: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its input in one line: the same for every recording of the same call."""
        steps = [call.source("self") for call in (*self.history, self.call)]
        return " ; ".join([self.receiver, *steps])

    def to_json(self) -> dict[str, Any]:
        """As JSON-safe data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        """The inverse of :meth:`to_json`."""
        return replace(
            cls(data["target"], _call(data["call"]), data["receiver"]),
            history=tuple(_call(item) for item in data["history"]),
            assertions=tuple(Assertion(**item) for item in data["assertions"]),
            raises=data["raises"],
            message=data["message"],
            imports=tuple((name, statement) for name, statement in data["imports"]),
            features=tuple(data["features"]),
        )


def _call(data: dict[str, Any]) -> Call:
    return Call(data["template"], tuple(Argument(**item) for item in data["arguments"]), data["statement"])
