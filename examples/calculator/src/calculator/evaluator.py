"""Computes the value of an expression. All numbers are floats."""

import operator
import math
from typing import Callable, Dict, Mapping, Optional

from calculator.errors import DivisionError, EvaluationError
from calculator.parser import Binary, Call, Name, Node, Number, Unary, parse

CONSTANTS = dict(pi=math.pi, e=math.e, tau=math.tau)

_BINARY: Dict[str, Callable[[float, float], float]] = {
    '+': operator.add,
    '-': operator.sub,
    '*': operator.mul,
    '/': operator.truediv,
    '%': operator.mod,
    '^': math.pow,
}

FUNCTIONS: Dict[str, Callable[..., float]] = {
    'abs': abs,
    'max': max,
    'min': min,
    'round': lambda value, digits=0.0: round(value, int(digits)),
    'sqrt': math.sqrt,
}


def evaluate(text: str, variables: Optional[Mapping[str, float]] = None) -> float:
    """Compute the value of an expression.

    >>> evaluate("2 * (x + 1)", {"x": 3})
    8.0

    Args:
        text: The expression.
        variables: Names that it may use, beside the constants.

    Raises:
        ParseError: ``text`` is not an expression.
        DivisionError: Something is divided by zero.
        EvaluationError: A name is unknown, or the result is undefined or too large.
    """
    value = _value(parse(text), dict(CONSTANTS, **(variables or {})))
    if math.isnan(value) or math.isinf(value):
        raise EvaluationError('the result is too large')
    return value


def _value(node: Node, names: Mapping[str, float]) -> float:
    if isinstance(node, Number):
        return node.value
    elif isinstance(node, Name):
        return _named(node.name, names)
    elif isinstance(node, Unary):
        operand = _value(node.operand, names)
        return -operand if node.operator == '-' else operand
    elif isinstance(node, Binary):
        return _binary(node, names)
    else:
        return _call(node, [_value(argument, names) for argument in node.arguments])


def _named(name: str, names: Mapping[str, float]) -> float:
    if name in names:
        return float(names[name])
    if name in FUNCTIONS:
        raise EvaluationError('%s is a function: write %s(...)' % (name, name))
    raise EvaluationError('unknown name %r' % name)


def _binary(node: Binary, names: Mapping[str, float]) -> float:
    left, right = _value(node.left, names), _value(node.right, names)
    try:
        return _BINARY[node.operator](left, right)
    except ZeroDivisionError:
        raise DivisionError('division by zero') from None
    except OverflowError:
        raise EvaluationError('the result is too large') from None
    except ValueError:
        raise EvaluationError('%g ^ %g is undefined' % (left, right)) from None


def _call(node: Call, arguments: 'list[float]') -> float:
    if node.function not in FUNCTIONS:
        raise EvaluationError('unknown function %r' % node.function)
    try:
        return float(FUNCTIONS[node.function](*arguments))
    except TypeError:
        raise EvaluationError('%s does not take %d argument(s)' % (node.function, len(arguments))) from None
    except (OverflowError, ValueError):
        shown = ', '.join(['%g' % argument for argument in arguments])
        raise EvaluationError('%s(%s) is undefined' % (node.function, shown)) from None
