"""Arithmetic and units, for the command line and for programs."""

from calculator.evaluator import evaluate
from calculator.errors import CalculatorError, DivisionError, EvaluationError, ParseError, UnitError
from calculator.units import convert

__version__ = "1.2.0"

__all__ = [
    "CalculatorError",
    "DivisionError",
    "EvaluationError",
    "ParseError",
    "UnitError",
    "convert",
    "evaluate",
]
