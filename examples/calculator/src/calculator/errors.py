"""What can be wrong with an expression."""


class CalculatorError(Exception):
    """Root of all errors of this package."""


class ParseError(CalculatorError):
    """The text is not an expression."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, position)
        self.message = message
        self.position = position

    def __str__(self) -> str:
        return '%s at character %d' % (self.message, self.position + 1)


class EvaluationError(CalculatorError):
    """The expression has no result."""


class DivisionError(EvaluationError):
    """Something is divided by zero."""


class UnitError(CalculatorError):
    """A unit is unknown, or does not measure what the other one does."""
