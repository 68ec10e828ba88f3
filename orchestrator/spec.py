"""Reading a spec: Markdown with optional YAML front matter and a list of acceptance criteria."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from pydantic import Field, StringConstraints, ValidationError

from tta_tasks.errors import SpecError
from tta_tasks.models import Criterion, Model, Percent, RelativePath, Target

#: Nobody writes a longer one; whoever passes one has mistaken the file.
MAX_BYTES = 1 << 20

_CRITERIA_HEADING = re.compile(r"\b(acceptance|criteria|requirements)\b", re.IGNORECASE)
_FENCE = re.compile(r"\A---[ \t]*\r?\n(?P<yaml>.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_CHECKBOX = re.compile(r"\[[ xX]\]\s+")
#: ``AC1``, ``AC-1``, ``REQ-NET-2.1``; set apart by bold type, or by what follows it.
_LABEL = r"[A-Za-z]{1,12}(?:-[A-Za-z]+)*[-_ ]?\d+(?:\.\d+)*"
_BOLD_LABEL = re.compile(rf"({_LABEL})\s*[:.)]?")
_PLAIN_LABEL = re.compile(rf"[\[(]?({_LABEL.replace('[-_ ]', '[-_]')}|AC \d+)[\])]?\s*(?::|\)|\s[-\u2013\u2014])\s+")

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class FrontMatter(Model):
    """What the YAML block at the top of a spec may say."""

    #: Instead of the first heading.
    title: _Text | None = None
    #: Name of the distribution, package or module, or a folder of the repository.
    component: _Text | None = None
    #: The package, module or source folder, relative to the project folder.
    source: RelativePath | None = None
    #: The tests' folder, relative to the project folder.
    tests: RelativePath | None = None
    #: Patterns (``fnmatch``) of the module names to work on.
    modules: tuple[_Text, ...] = ()
    #: Coverage to reach, instead of the target's own.
    coverage: Annotated[Percent, Field(strict=True)] | None = None
    target: Target | None = None
    #: Extras to install for the tests.
    extras: tuple[_Text, ...] = ()


class Spec(FrontMatter):
    """A spec, read and checked."""

    title: _Text
    #: The Markdown, without front matter.
    text: str
    criteria: tuple[Criterion, ...] = ()
    #: The file's name.
    name: str


def read_spec(path: Path) -> Spec:
    """Read the spec at ``path``.

    Raises:
        SpecError: It is not there, is no readable text, or its front matter does not hold.
    """
    text = _read_text(path)
    matter, body = _split(text, path)
    tree = SyntaxTreeNode(MarkdownIt("commonmark").parse(body))
    settings = matter.model_dump(exclude={"title"})
    title = matter.title or _heading(tree) or path.stem
    return Spec(title=title, text=body, criteria=_criteria(tree), name=path.name, **settings)


def _read_text(path: Path) -> str:
    try:
        if not path.exists():
            raise SpecError(f"There is no spec at {str(path)!r}.", _near_names(path))
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise SpecError(f"{str(path)!r} is {what}, not a spec.", "Name the Markdown file itself.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SpecError(
                f"{str(path)!r} has {size / MAX_BYTES:.1f} MiB; a spec has at most {MAX_BYTES >> 20} MiB.",
                "Name a Markdown file; keep data and attachments beside it.",
            )
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"The spec at {str(path)!r} cannot be read: {reason}.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SpecError(f"{str(path)!r} is not text in UTF-8.", "Save it as Markdown in UTF-8.")
    if not text.strip():
        raise SpecError(f"{str(path)!r} is empty.", "Write what the component should do, and acceptance criteria.")
    return text


def _near_names(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {str(folder)!r} either."
    names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    near += [name for name in names if Path(name).stem == path.name and name not in near]
    if near:
        return "Did you mean " + " or ".join(repr(str(folder / name)) for name in near) + "?"
    specs = sorted(name for name in names if name.endswith((".md", ".markdown")))
    return f"That folder has {', '.join(specs[:5])}." if specs else "Check the path."


def _split(text: str, path: Path) -> tuple[FrontMatter, str]:
    """Part the front matter from the Markdown."""
    match = _FENCE.match(text)
    if not match:
        return FrontMatter(), text
    try:
        data = yaml.safe_load(match["yaml"])
    except yaml.YAMLError as error:
        raise SpecError(
            f"The front matter of {str(path)!r} is not YAML: {_yaml_problem(error)}.",
            "Write one 'key: value' a line between the two '---', and quote values that hold ': ' or '#'.",
        ) from error
    except RecursionError as error:
        raise SpecError(f"The front matter of {str(path)!r} is nested too deeply.") from error
    return _validated(data, path), text[match.end() :]


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        # The mark counts from 0, and the opening fence comes before it.
        return f"line {error.problem_mark.line + 2}, {error.problem}"
    return str(error).splitlines()[0]


def _validated(data: object, path: Path) -> FrontMatter:
    if data is None:
        return FrontMatter()
    known = ", ".join(FrontMatter.model_fields)
    if not isinstance(data, Mapping):
        raise SpecError(f"The front matter of {str(path)!r} is not a mapping.", f"It may say: {known}.")
    if unknown := [str(key) for key in data if key not in FrontMatter.model_fields]:
        near = difflib.get_close_matches(unknown[0], FrontMatter.model_fields, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise SpecError(
            f"The front matter of {str(path)!r} says {unknown[0]!r}, which means nothing here.",
            f"{guess}It may say: {known}.",
        )
    try:
        return FrontMatter.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SpecError(
            f"The front matter of {str(path)!r} has {_problem(first)}.",
            _VALUES.get(str(first["loc"][0]), "Give it a text."),
        ) from error


_VALUES = {
    "coverage": "Give a percentage from 0 to 100, such as 'coverage: 80'.",
    "target": f"Take one of: {', '.join(Target)}.",
    "source": "Give a path relative to the project folder, such as 'source: src/calculator'.",
    "tests": "Give a path relative to the project folder, such as 'tests: tests'.",
    "modules": "Give a list of names or patterns, such as 'modules: [calculator.parser]'.",
    "extras": "Give a list of names, such as 'extras: [test]'.",
}


def _problem(item: Mapping[str, Any]) -> str:
    value = repr(item["input"])
    short = value if len(value) <= 60 else f"{value[:57]}..."  # noqa: PLR2004 - what fits in a message
    return f"{item['loc'][0]}: {short}, but {item['msg'][:1].lower()}{item['msg'][1:]}"


def _heading(tree: SyntaxTreeNode) -> str:
    headings = [node for node in tree.children if node.type == "heading"]
    first = min(headings, key=lambda node: node.tag, default=None)
    return _plain(first) if first else ""


def _criteria(tree: SyntaxTreeNode) -> tuple[Criterion, ...]:
    """The list items in sections on acceptance; their labels, else their place, as ids."""
    found = [_labelled(item) for item in _listed(tree)]
    taken = {label for label, _ in found if label}
    criteria: dict[str, Criterion] = {}
    for number, (label, text) in enumerate(found, start=1):
        wanted = label or f"AC{number}"
        # Sections often number their criteria anew.
        repeats = (f"{wanted}-{count}" for count in range(2, len(found) + 2))
        used = criteria if label else taken | criteria.keys()
        identifier = wanted if wanted not in used else next(name for name in repeats if name not in used)
        criteria[identifier] = Criterion(id=identifier, text=text)
    return tuple(criteria.values())


def _listed(tree: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    """The top-level list items under headings on acceptance, down to the next heading of their level."""
    level = ""  # tag of the heading that opened the section: h1 < h2
    for node in tree.children:
        if node.type == "heading":
            if not level or node.tag <= level:
                level = node.tag if _CRITERIA_HEADING.search(_plain(node)) else ""
        elif level and node.type in {"bullet_list", "ordered_list"}:
            yield from (item for item in node.children if _plain(item))


def _labelled(item: SyntaxTreeNode) -> tuple[str, str]:
    """The author's label, if there is one, and the text of a list item."""
    text = _CHECKBOX.sub("", _plain(item), count=1)
    bold = next((node for node in item.walk() if node.type == "strong"), None)
    if bold and text.startswith(_plain(bold)) and (label := _BOLD_LABEL.fullmatch(_plain(bold))):
        return _identifier(label[1]), text.removeprefix(_plain(bold)).lstrip(" :.)-\u2013\u2014") or text
    if label := _PLAIN_LABEL.match(text):
        return _identifier(label[1]), text[label.end() :]
    return "", text


def _identifier(label: str) -> str:
    return label.replace(" ", "")


def _plain(node: SyntaxTreeNode) -> str:
    """Text of ``node`` without markup, in one line; code keeps its backticks, as it names what is meant."""
    if node.type == "text":
        return node.content
    if node.type == "code_inline":
        return f"`{node.content}`"
    if node.type in {"softbreak", "hardbreak"}:
        return " "
    if node.type in {"fence", "code_block"}:
        return f"`{' '.join(node.content.split())}`"
    if node.type in {"list_item", "bullet_list", "ordered_list"}:
        parts = filter(None, map(_plain, node.children))
        return ("; " if node.type != "list_item" else " ").join(parts)
    return "".join(map(_plain, node.children)).strip() if node.type != "inline" else _line(node)


def _line(node: SyntaxTreeNode) -> str:
    return " ".join("".join(map(_plain, node.children)).split())
