"""Values drawn from Hypothesis strategies: for annotations, and for regular expressions."""

# ruff: noqa: ANN401 - what foreign code takes and gives may be of any type

from __future__ import annotations

import re
import warnings
from typing import Any

import hypothesis
import hypothesis.strategies

from .names import Names
from .source_repr import source_repr

#: Longest value worth showing to a reader.
_MAX_LENGTH = 60


def samples(strategy: Any, names: Names, seed: int, count: int = 20) -> list[str]:
    """Up to ``count`` different values of a strategy, the simplest first, as expressions."""
    found: dict[str, None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategy)
    def draw(value: Any) -> None:
        expression = source_repr(value, names)
        if expression is not None and len(expression) <= _MAX_LENGTH:
            found[expression] = None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            draw()
        except Exception:  # noqa: BLE001 - a strategy of foreign types may fail in any way; what was drawn stays
            return list(found)
    return sorted(found, key=len)


def of_annotation(annotation: Any, names: Names, seed: int) -> list[str]:
    """Values that ``st.from_type`` finds for an annotation."""
    try:
        return samples(hypothesis.strategies.from_type(annotation), names, seed, 15)
    except Exception:  # noqa: BLE001 - not an annotation it understands
        return []


def of_pattern(pattern: re.Pattern[Any], names: Names, seed: int) -> list[str]:
    """Strings that match a regular expression of the module, printable ones."""
    if isinstance(pattern.pattern, bytes):
        return []
    try:
        printable = hypothesis.strategies.characters(min_codepoint=32, max_codepoint=126)
        strategy = hypothesis.strategies.from_regex(pattern, fullmatch=True, alphabet=printable)
        return samples(strategy, names, seed, 25)
    except Exception:  # noqa: BLE001 - a pattern it does not understand
        return []
