"""A case as the statements of a test: what is verified is what is rendered."""

from __future__ import annotations

import ast
import builtins
import keyword
import re

from .case import HEAD, RESULT, SELF, Assertion, Case

#: Names a test needs for itself; no variable may take them.
_TAKEN = {"expected", "tmp_path", "capsys", "sample", "pytest", "islice", *dir(builtins)}
#: Longest receiver that is written into the call instead of getting a variable.
_INLINE_RECEIVER = 40
#: How a file argument is made.
SAMPLE = ('sample = tmp_path / "sample.txt"', 'sample.write_text("first line\\nsecond line\\n", encoding="utf-8")')


def snake(name: str) -> str:
    """``SortedSet`` -> ``sorted_set``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().strip("_")


def variable(name: str, taken: set[str]) -> str:
    """A variable name like ``name`` that hides nothing the test needs."""
    while name in taken or name in _TAKEN or keyword.iskeyword(name):
        name += "_"
    return name


def assert_statement(assertion: Assertion, subject: str) -> str:
    """The statement that holds for an assertion with its subject written out."""
    tree = ast.parse(subject or "None", mode="eval").body
    if assertion.how == "is" and isinstance(tree, ast.Compare) and assertion.expected in {"True", "False"}:
        return _compared(subject, tree, holds=assertion.expected == "True")
    if assertion.how in {"list", "head"} and subject.startswith("iter("):
        subject = subject.removeprefix("iter(").removesuffix(")")
    if type(tree) in {ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.IfExp, ast.Lambda}:
        subject = f"({subject})"
    return {
        "equal": f"assert {subject} == {assertion.expected}",
        "is": f"assert {subject} is {assertion.expected}",
        "approx": f"assert {subject} == pytest.approx({assertion.expected})",
        "nan": f"assert math.isnan({subject})",
        "list": f"assert list({subject}) == {assertion.expected}",
        "head": f"assert list(islice({subject}, {HEAD})) == {assertion.expected}",
        "text": f"assert str({subject}) == {assertion.expected}",
        "type": f"assert isinstance({subject}, {assertion.expected})",
        "prints": f"assert capsys.readouterr().out == {assertion.expected}",
    }[assertion.how]


def _compared(subject: str, tree: ast.Compare, *, holds: bool) -> str:
    """A comparison asserted as one would say it."""
    if holds:
        return f"assert {subject}"
    if isinstance(tree.ops[0], ast.In):
        left, right = ast.get_source_segment(subject, tree.left), ast.get_source_segment(subject, tree.comparators[0])
        return f"assert {left} not in {right}"
    return f"assert not ({subject})"


def fixtures(statements: list[str]) -> list[str]:
    """Pytest fixtures that statements rely on."""
    text = "\n".join(statements)
    return [name for name in ("capsys", "tmp_path") if re.search(rf"\b{name}\b", text)]


def statements(case: Case) -> list[str]:
    """The body of a test for one case, one statement an item (``with`` blocks are indented by four spaces)."""
    names = {name for name, _ in case.imports}
    lines, receiver = _prepare(case, names)
    bound = _bound_arguments(case, names)
    sources = {argument.name: argument.source for argument in case.call.arguments}
    lines += [f"{var} = {sources[name]}" for name, var in bound.items()]
    call = case.call.source(receiver, bound)
    if case.raises:
        match = f", match={_match(case.message)}" if case.message else ""
        return [*lines, f"with pytest.raises({case.raises}{match}):", f"    {call}"]
    return lines + _assertion_lines(case, call, receiver, bound)


def _prepare(case: Case, names: set[str]) -> tuple[list[str], str]:
    mentioned = " ".join([case.receiver, *(c.source() for c in (*case.history, case.call))])
    lines = list(SAMPLE) if re.search(r"\bsample\b", mentioned) else []
    if not case.receiver:
        return lines, ""
    about_self = any(SELF in assertion.subject for assertion in case.assertions)
    simple = re.fullmatch(r"[\w.]+(\(.*\))?", case.receiver) and len(case.receiver) <= _INLINE_RECEIVER
    once = case.call.template.count(SELF) == 1 and not case.call.statement
    if simple and once and not case.history and not about_self and not case.raises:
        return lines, case.receiver
    owner = case.target.split(".", maxsplit=1)[0]
    receiver = variable(snake(owner) or "instance", names)
    lines.append(f"{receiver} = {case.receiver}")
    return lines + [call.source(receiver) for call in case.history], receiver


def _bound_arguments(case: Case, names: set[str]) -> dict[str, str]:
    """Arguments that are looked at after the call need a variable: name -> variable."""
    watched = {assertion.subject for assertion in case.assertions}
    bound = {}
    for argument in case.call.arguments:
        if f"{{{argument.name}}}" in watched:
            bound[argument.name] = variable(argument.name.strip("_") or "argument", names)
    return bound


def _assertion_lines(case: Case, call: str, receiver: str, bound: dict[str, str]) -> list[str]:
    about_result = [assertion for assertion in case.assertions if RESULT in assertion.subject]
    others = [assertion for assertion in case.assertions if RESULT not in assertion.subject]
    entered = [assertion for assertion in about_result if assertion.how == "enter"]
    if entered:
        return _enter(entered[0], call)
    lines = []
    if len(about_result) == 1 and about_result[0].subject.count(RESULT) == 1:
        lines.append(assert_statement(about_result[0], about_result[0].subject.replace(RESULT, call)))
    elif about_result:
        lines.append(f"result = {call}")
        lines += [
            assert_statement(assertion, assertion.subject.replace(RESULT, "result")) for assertion in about_result
        ]
    else:
        lines.append(call)
    for assertion in others:
        subject = assertion.subject.replace(SELF, receiver)
        for name, var in bound.items():
            subject = subject.replace(f"{{{name}}}", var)
        lines.append(assert_statement(assertion, subject))
    return lines


def _enter(assertion: Assertion, call: str) -> list[str]:
    if not assertion.expected:
        return [f"with {call} as value:", "    assert value is not None"]
    how = "is" if assertion.expected in {"None", "True", "False"} else "equal"
    return [f"with {call} as value:", f"    {assert_statement(Assertion(how, '', assertion.expected), 'value')}"]


def _match(message: str) -> str:
    """The message as a pattern, as plain as it can be."""
    if re.escape(message).replace("\\ ", " ").replace("\\-", "-") == message:
        return quoted(message)
    return f"re.escape({quoted(message)})"


def quoted(text: str) -> str:
    """A string literal, with double quotes where that needs no escapes."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal.startswith("'") and '"' not in text and "\\'" not in literal else literal
