"""Values worth trying, by kind: plain ones first, as they are what a reader sees."""

from __future__ import annotations

_INT = ["1", "0", "-1", "2", "3", "7", "10", "12", "13", "21", "100", "111", "1000", "1234567", "10**9", "10**24"]
_FLOAT = ["1.5", "0.0", "-2.25", "0.001", "99.999", "1e6", "1e-4", 'float("inf")', 'float("-inf")', 'float("nan")']
_STR = [
    '"hello"', '""', '"a"', '"Hello World"', '"foo_bar-baz 12"', '"  padded  "', '"camelCaseWord"', '"Ünïcödé é"',
    '"1.0"', '"42"', '"a,b;c"', '"line one\\nline two"', '"A1b2"', '"not a number"', '"影師嗎"', '"a b c d e f g h"',
    '"x=1&y=2"', '"<b>&amp;</b>"', '"/usr/lib"', '"-"', '"."', '"it\'s"', '"UPPER"', '"1,000.50"', '"nan"',
]  # fmt: skip
_LIST = [
    "[3, 1, 2]", "[]", '["a", "b", "c"]', "[1, 2, 3, 4, 5]", "[1, 1, 2]", "[[1, 2], [3]]", '["banana", "apple"]',
    "[(1, 2), (3, 4)]", '[("a", 1), ("b", 2)]', "range(5)", '"abc"', "(1, 2)", "[None, 0, 1]", "[1.5, 2.5]",
    '[{"a": 1}, {"a": 2, "b": 3}]', "{1, 2, 3}",
]  # fmt: skip
_DICT = [
    '{"a": 1, "b": 2}', "{}", '{"a": {"b": 1}}', "{1: 2, 3: 4}", '{"x": [1, 2], "y": None}', '{"name": "value"}',
    '[("a", 1), ("b", 2)]',
]  # fmt: skip
_CALLABLE = [
    "lambda x: x", "lambda x: x * 2", "lambda x, y: x + y", "str", "int", "len", "lambda: 1", "lambda *args: args",
    "lambda x: x > 1", "bool", "list", "lambda x: -x",
]  # fmt: skip

KINDS: dict[str, list[str]] = {
    "int": _INT,
    "float": [*_FLOAT, "2", "100"],
    "str": _STR,
    "bool": ["True", "False"],
    "bytes": ['b"abc"', 'b""', 'b"\\xff\\xfe"', 'b"hello world"'],
    "list": _LIST,
    "tuple": ["(1, 2)", "()", '("a", "b")', "(1, 2, 3)", "(3, 1)", '("a", 1)'],
    "dict": _DICT,
    "set": ["{1, 2, 3}", "set()", '{"a", "b"}', "frozenset({1})"],
    "callable": _CALLABLE,
    "iterator": ["iter([1, 2, 3])", "iter([])", 'iter(["a", "b"])'],
    "none": ["None"],
    "path": ["sample", "str(sample)", 'tmp_path / "missing.txt"', "tmp_path", 'str(tmp_path / "new.txt")', '"-"'],
    "file": ['io.StringIO("one\\ntwo\\n")', 'io.BytesIO(b"one\\ntwo\\n")', "io.StringIO()"],
    "datetime": ["datetime.datetime(2024, 2, 29, 12, 30)",
        "datetime.datetime(1999, 12, 31, tzinfo=datetime.timezone.utc)"],
    "date": ["datetime.date(2024, 2, 29)", "datetime.date(1999, 12, 31)", "datetime.datetime(2024, 2, 29, 12, 30)"],
    "time": ["datetime.time(12, 30)", "datetime.time(0, 0)"],
    "timedelta": [
        "datetime.timedelta(days=1)", "datetime.timedelta(seconds=90)", "datetime.timedelta()",
        "datetime.timedelta(days=-400)",
        "datetime.timedelta(hours=3)", "datetime.timedelta(microseconds=5)",
        "datetime.timedelta(days=3, hours=2, minutes=5)",
    ],
    "decimal": ['Decimal("1.50")', 'Decimal("0")', 'Decimal("-12.345")'],
    "fraction": ["Fraction(1, 3)", "Fraction(-5, 2)"],
    "uuid": ['UUID("12345678123456781234567812345678")'],
    "pattern": ['re.compile("[a-c]+")', 're.compile("")'],
    "type": ["int", "str", "dict", "ValueError"],
    "slice": ["slice(1, 3)", "slice(None)", "slice(None, None, -1)", "slice(0, 10, 2)"],
    "index": ["0", "-1", "1", "slice(1, 3)", "slice(None)", "slice(None, None, -1)", "100", '"a"'],
}  # fmt: skip

#: When nothing is known: one or two of everything.
ANY = [
    "1", '"hello"', "[3, 1, 2]", "None", '{"a": 1, "b": 2}', "lambda x: x", "0", "-1", "1.5", '""', "True", "[]",
    '["a", "b"]', '"Hello World"', "(1, 2)", "{}", 'b"abc"', "{1, 2}", "lambda x, y: x + y", "100", '"1.0"', "int",
    "iter([1, 2, 3])", '[("a", 1)]', '[{"a": 1}, {"b": 2}]', "False", "object()",
]  # fmt: skip

#: For ``*args``: what stands for all of them.
STARRED = ["[1, 2]", '["a", "b"]', "[]", "[[1, 2], [3, 4]]", '[{"a": 1}, {"b": 2}]', "[3]", '["hello"]']
#: For ``**kwargs``.
DOUBLE_STARRED = ["{}", '{"a": 1}', '{"a": 1, "b": 2}', '{"key": "value"}']


#: What a value under a key may be.
_UNDER_KEY = ["1", '"a"', "None", "-1", "[1, 2]", '("a", 1)', "(1, 2)", "0", '"hello"', "True", '{"a": 1}', "1.5"]


def with_keys(keys: list[str]) -> list[str]:
    """Dicts with the keys that are looked up, together and each alone."""
    together = ["{" + ", ".join(f"{key!r}: {value}" for key in keys) + "}" for value in _UNDER_KEY[:2]]
    return together + [f"{{{key!r}: {value}}}" for value in _UNDER_KEY for key in keys] if keys else []


def command_lines(texts: list[str]) -> list[str]:
    """Command lines for a ``main(argv)``: each word of the module alone, and with something after it."""
    words = [text for text in texts if text and not any(character.isspace() for character in text)]
    lines = [["--help"], [], ["--version"], *([word] for word in words), *([word, "1"] for word in words)]
    lines += [[option, "1 + 2"] for option in words if option.startswith("-")]
    return [repr(line) for line in [*lines, ["1 + 2"], ["hello"], ["hello", "world"], ["--no-such-option"]]]


def of_kind(kind: str) -> list[str]:
    """Expressions of a kind; ``value:X`` is X itself."""
    if kind.startswith("value:"):
        return [kind[6:]]
    return KINDS.get(kind, ANY if kind == "any" else [])
