"""Splits the text of an expression into tokens."""

import re
from typing import Iterator, List, NamedTuple

from calculator.errors import ParseError

_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator>[-+*/%^(),])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of an expression."""

    kind: str
    text: str
    position: int


def tokenize(text: str) -> List[Token]:
    """Split ``text`` into numbers, names and operators, and an ``end``.

    >>> [token.text for token in tokenize("2*(x + 1)")]
    ['2', '*', '(', 'x', '+', '1', ')', '']

    Raises:
        ParseError: A character belongs to no token.
    """
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None:
            raise ParseError('unexpected %r' % text[position], position)
        kind = match.lastgroup or ''
        if kind != 'space':
            yield Token(kind, match.group(), position)
        position = match.end()
    yield Token('end', '', position)
