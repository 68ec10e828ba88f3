"""What a model that knows its trade would write for the calculator: module -> a file of tests."""

CALCULATOR = {
    "calculator.evaluator": '''"""What expressions come to."""

import math

import pytest

from calculator.errors import DivisionError, EvaluationError
from calculator.evaluator import evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7.0),
        ("7 - 2", 5.0),
        ("-2 ^ 2", -4.0),
        ("+3", 3.0),
        ("7 % 4", 3.0),
        ("9 / 2", 4.5),
        ("max(1, 2, 3)", 3.0),
        ("round(2.567, 1)", 2.6),
        ("sqrt(abs(-9))", 3.0),
        ("2 * pi", 2 * math.pi),
    ],
)
def test_expressions_have_values(text, value):
    assert evaluate(text) == pytest.approx(value)


def test_variables_come_before_constants():
    assert evaluate("e + x", {"x": 1, "e": 2}) == 3.0


def test_dividing_by_zero_is_an_error_of_its_own():
    with pytest.raises(DivisionError, match="division by zero"):
        evaluate("1 / 0")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing", "unknown name 'nothing'"),
        ("sqrt", "sqrt is a function"),
        ("nothing(1)", "unknown function 'nothing'"),
        ("sqrt(1, 2)", "does not take 2"),
        ("sqrt(-1)", "is undefined"),
        ("10 ^ 400", "too large"),
        ("1e308 * 10", "too large"),
        ("(-8) ^ 0.5", "is undefined"),
    ],
)
def test_what_has_no_value_says_why(text, reason):
    with pytest.raises(EvaluationError, match=reason):
        evaluate(text)
''',
    "calculator.parser": '''"""What is an expression."""

import pytest

from calculator.errors import ParseError
from calculator.parser import Binary, Call, Name, Number, Unary, parse


def test_products_bind_tighter_than_sums():
    assert parse("1 + 2 * x") == Binary("+", Number(1.0), Binary("*", Number(2.0), Name("x")))


def test_powers_bind_tighter_than_signs():
    assert parse("-2 ^ -1") == Unary("-", Binary("^", Number(2.0), Unary("-", Number(1.0))))


def test_functions_take_any_number_of_arguments():
    assert parse("f() - g(1, (2))") == Binary("-", Call("f", ()), Call("g", (Number(1.0), Number(2.0))))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2", "expected an operator, found '2'"),
        ("(1", r"expected '\\)', found the end"),
        ("*", "expected a number, found"),
        ("", "found the end"),
        ("-" * 70 + "1", "nested too deeply"),
    ],
)
def test_what_is_no_expression_says_why(text, reason):
    with pytest.raises(ParseError, match=reason):
        parse(text)
''',
    "calculator.units": '''"""What units convert to."""

import pytest

from calculator.errors import UnitError
from calculator.units import convert


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [(0, "degC", "degF", 32.0), (3, "kg", "kg", 3.0), (1, "km", "mm", 1e6)],
)
def test_units_convert(value, source, target, result):
    assert convert(value, source, target) == result


@pytest.mark.parametrize(
    ("value", "source", "target", "reason"),
    [
        (1, "m", "kg", "cannot convert m"),
        (-1, "K", "degC", "below absolute zero"),
        (1, "league", "m", "unknown unit 'league'"),
    ],
)
def test_what_does_not_convert_says_why(value, source, target, reason):
    with pytest.raises(UnitError, match=reason):
        convert(value, source, target)
''',
    "calculator.cli": '''"""What a person sees."""

import pytest

from calculator.cli import format_number, main


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(7.0, 12, "7"), (2 / 3, 3, "0.667"), (1e15, 12, "1e+15"), (0.5, 1, "0.5")]
)
def test_numbers_are_written_shortly(value, digits, text):
    assert format_number(value, digits) == text


def test_a_result_is_printed(capsys):
    assert main(["1 + 2"]) == 0
    assert capsys.readouterr().out == "3\\n"


def test_results_convert(capsys):
    assert main(["2 * 3", "--from", "km", "--to", "m"]) == 0
    assert capsys.readouterr().out == "6000\\n"


def test_a_fault_is_said(capsys):
    assert main(["1 /"]) == 1
    assert capsys.readouterr().err.startswith("calculator: expected a number")


@pytest.mark.parametrize("argv", [["1", "--from", "m"], ["1", "--digits", "99"]])
def test_wrong_options_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    assert "usage: calculator" in capsys.readouterr().err
''',
    "calculator.errors": '''"""What an error says."""

from calculator.errors import ParseError


def test_positions_count_from_one():
    assert str(ParseError("unexpected", 4)) == "unexpected at character 5"
''',
    "calculator.tokens": '''"""What a token is."""

from calculator.tokens import tokenize


def test_names_and_operators_are_told_apart():
    assert [(token.kind, token.text) for token in tokenize("a_1 % .5e3")] == [
        ("name", "a_1"),
        ("operator", "%"),
        ("number", ".5e3"),
        ("end", ""),
    ]
''',
}
