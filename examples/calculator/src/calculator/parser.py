"""Turns tokens into a tree, by recursive descent.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/" | "%") sign)*
    sign    = ("+" | "-") sign | power
    power   = atom ["^" sign]
    atom    = number | name ["(" [sum ("," sum)*] ")"] | "(" sum ")"
"""

from dataclasses import dataclass
from typing import List, Tuple, Union

from calculator.tokens import Token, tokenize
from calculator.errors import ParseError

#: Deeper nesting is more likely a mistake than an expression.
MAX_DEPTH = 60


@dataclass(frozen=True)
class Number:
    """A literal."""

    value: float


@dataclass(frozen=True)
class Name:
    """A constant or a variable."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function applied to arguments."""

    function: str
    arguments: "Tuple[Node, ...]"


@dataclass(frozen=True)
class Unary:
    """A sign before an operand."""

    operator: str
    operand: "Node"


@dataclass(frozen=True)
class Binary:
    """An operator between two operands."""

    operator: str
    left: "Node"
    right: "Node"


Node = Union[Number, Name, Call, Unary, Binary]


def parse(text: str) -> Node:
    """Parse an expression.

    >>> parse("1 + x")
    Binary(operator='+', left=Number(value=1.0), right=Name(name='x'))

    Raises:
        ParseError: ``text`` is not an expression, or is nested too deeply.
    """
    parser = _Parser(tokenize(text))
    node = parser.sum()
    parser.expect('end')
    return node


class _Parser(object):
    def __init__(self, tokens: List[Token]) -> None:
        self._tokens = tokens
        self._index = 0
        self._depth = 0

    @property
    def _current(self) -> Token:
        return self._tokens[self._index]

    def _take(self, *texts: str) -> str:
        """The current token's text if it is an operator of ``texts``, else nothing."""
        token = self._current
        if token.kind == 'operator' and token.text in texts:
            self._index += 1
            return token.text
        else:
            return ''

    def expect(self, what: str) -> None:
        """Go past ``what``, an operator or the end."""
        token = self._current
        if what not in (token.text, token.kind):
            found = repr(token.text) if token.text else 'the end'
            wanted = 'an operator' if what == 'end' else repr(what)
            raise ParseError('expected %s, found %s' % (wanted, found), token.position)
        self._index += token.kind != 'end'

    def sum(self) -> Node:
        node = self._product()
        while True:
            operator = self._take('+', '-')
            if not operator:
                return node
            node = Binary(operator, node, self._product())

    def _product(self) -> Node:
        node = self._sign()
        while True:
            operator = self._take('*', '/', '%')
            if not operator:
                return node
            node = Binary(operator, node, self._sign())

    def _sign(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError('nested too deeply', self._current.position)
        operator = self._take('+', '-')
        node = Unary(operator, self._sign()) if operator else self._power()
        self._depth -= 1
        return node

    def _power(self) -> Node:
        base = self._atom()
        if self._take('^'):
            return Binary('^', base, self._sign())
        else:
            return base

    def _atom(self) -> Node:
        token = self._current
        if self._take('('):
            node = self.sum()
            self.expect(')')
            return node
        if token.kind == 'number':
            self._index += 1
            return Number(float(token.text))
        elif token.kind == 'name':
            self._index += 1
            if self._take('('):
                return Call(token.text, self._arguments())
            else:
                return Name(token.text)
        found = repr(token.text) if token.text else 'the end'
        raise ParseError('expected a number, found %s' % found, token.position)

    def _arguments(self) -> Tuple[Node, ...]:
        arguments: List[Node] = []
        if self._take(')'):
            return tuple(arguments)
        arguments.append(self.sum())
        while self._take(','):
            arguments.append(self.sum())
        self.expect(')')
        return tuple(arguments)
