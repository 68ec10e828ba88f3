"""The command line."""

import sys
import argparse
from typing import List, Optional

import calculator
from calculator.errors import CalculatorError
from calculator.evaluator import evaluate
from calculator.units import convert


def format_number(value: float, digits: int = 12) -> str:
    """Write ``value`` with at most ``digits`` significant digits.

    >>> format_number(7.0)
    '7'
    >>> format_number(2 / 3, digits=3)
    '0.667'
    """
    rounded = float('%.*g' % (digits, value))
    if rounded == int(rounded) and abs(rounded) < 1e15:
        return '%d' % int(rounded)
    else:
        return '%.*g' % (digits, value)


def main(argv: Optional[List[str]] = None) -> int:
    """Evaluate the expression on the command line.

    Returns:
        The exit code: 0 with a result, 1 without.
    """
    options = _parser().parse_args(argv)
    if bool(options.source) != bool(options.target):
        _parser().error('--from and --to go together')
    try:
        value = evaluate(options.expression)
        if options.source:
            value = convert(value, options.source, options.target)
    except CalculatorError as error:
        print('calculator: %s' % error, file=sys.stderr)
        return 1
    print(format_number(value, options.digits))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='calculator', description=calculator.__doc__)
    parser.add_argument('expression', help='what to compute, such as "1 + 2 * 3"')
    parser.add_argument('--from', dest='source', metavar='UNIT', help='unit of the result')
    parser.add_argument('--to', dest='target', metavar='UNIT', help='unit to convert it to')
    parser.add_argument('--digits', type=_digits, default=12, help='significant digits (12)')
    parser.add_argument('--version', action='version', version='%%(prog)s %s' % calculator.__version__)
    return parser


def _digits(text: str) -> int:
    digits = int(text)
    if not 1 <= digits <= 17:
        raise argparse.ArgumentTypeError('must be from 1 to 17')
    return digits
