"""The first things anybody tries."""

import pytest

from calculator.errors import ParseError
from calculator.tokens import tokenize
from calculator.units import convert


def test_tokens_know_their_place():
    """Spaces separate tokens and are none."""
    assert [(token.kind, token.position) for token in tokenize("12 + x")] == [
        ("number", 0),
        ("operator", 3),
        ("name", 5),
        ("end", 6),
    ]


def test_unknown_characters_are_refused():
    """The position is told."""
    with pytest.raises(ParseError, match="unexpected '!' at character 3"):
        tokenize("1 !")


def test_a_mile_is_longer_than_a_kilometre():
    """The factor is exact by definition."""
    assert convert(1, "mi", "km") == 1.609344
