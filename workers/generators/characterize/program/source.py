"""A case as the statements of a test: what is verified is what is rendered."""

from __future__ import annotations

import ast
import builtins
import keyword
import re

from .case import HEAD, RESULT, SELF, Case, Check

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


def assertion(check: Check, subject: str) -> str:
    """The statement that holds for a check with its subject written out."""
    tree = ast.parse(subject or "None", mode="eval").body
    if check.how == "is" and isinstance(tree, ast.Compare) and check.expected in {"True", "False"}:
        return _compared(subject, tree, holds=check.expected == "True")
    if check.how in {"list", "head"} and subject.startswith("iter("):
        subject = subject.removeprefix("iter(").removesuffix(")")
    if type(tree) in {ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.IfExp, ast.Lambda}:
        subject = f"({subject})"
    return {
        "equal": f"assert {subject} == {check.expected}",
        "is": f"assert {subject} is {check.expected}",
        "approx": f"assert {subject} == pytest.approx({check.expected})",
        "nan": f"assert math.isnan({subject})",
        "list": f"assert list({subject}) == {check.expected}",
        "head": f"assert list(islice({subject}, {HEAD})) == {check.expected}",
        "text": f"assert str({subject}) == {check.expected}",
        "type": f"assert isinstance({subject}, {check.expected})",
        "prints": f"assert capsys.readouterr().out == {check.expected}",
    }[check.how]


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
    return lines + _observe(case, call, receiver, bound)


def _prepare(case: Case, names: set[str]) -> tuple[list[str], str]:
    mentioned = " ".join([case.receiver, *(c.source() for c in (*case.history, case.call))])
    lines = list(SAMPLE) if re.search(r"\bsample\b", mentioned) else []
    if not case.receiver:
        return lines, ""
    about_self = any(SELF in check.subject for check in case.checks)
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
    watched = {check.subject for check in case.checks}
    bound = {}
    for argument in case.call.arguments:
        if f"{{{argument.name}}}" in watched:
            bound[argument.name] = variable(argument.name.strip("_") or "argument", names)
    return bound


def _observe(case: Case, call: str, receiver: str, bound: dict[str, str]) -> list[str]:
    about_result = [check for check in case.checks if RESULT in check.subject]
    others = [check for check in case.checks if RESULT not in check.subject]
    entered = [check for check in about_result if check.how == "enter"]
    if entered:
        return _enter(entered[0], call)
    lines = []
    if len(about_result) == 1 and about_result[0].subject.count(RESULT) == 1:
        lines.append(assertion(about_result[0], about_result[0].subject.replace(RESULT, call)))
    elif about_result:
        lines.append(f"result = {call}")
        lines += [assertion(check, check.subject.replace(RESULT, "result")) for check in about_result]
    else:
        lines.append(call)
    for check in others:
        subject = check.subject.replace(SELF, receiver)
        for name, var in bound.items():
            subject = subject.replace(f"{{{name}}}", var)
        lines.append(assertion(check, subject))
    return lines


def _enter(check: Check, call: str) -> list[str]:
    if not check.expected:
        return [f"with {call} as value:", "    assert value is not None"]
    how = "is" if check.expected in {"None", "True", "False"} else "equal"
    return [f"with {call} as value:", f"    {assertion(Check(how, '', check.expected), 'value')}"]


def _match(message: str) -> str:
    """The message as a pattern, as plain as it can be."""
    if re.escape(message).replace("\\ ", " ").replace("\\-", "-") == message:
        return quoted(message)
    return f"re.escape({quoted(message)})"


def quoted(text: str) -> str:
    """A string literal, with double quotes where that needs no escapes."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal.startswith("'") and '"' not in text and "\\'" not in literal else literal
