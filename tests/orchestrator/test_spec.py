"""Reading specs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.spec import MAX_BYTES, Spec, read_spec
from tta_tasks.errors import SpecError
from tta_tasks.models import Target


def spec_of(folder: Path, text: str | bytes, name: str = "slug.md") -> Spec:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(path)


def fault_of(folder: Path, text: str | bytes) -> SpecError:
    with pytest.raises(SpecError) as caught:
        spec_of(folder, text)
    assert caught.value.message
    return caught.value


def ids_and_texts(spec: Spec) -> list[tuple[str, str]]:
    return [(criterion.id, criterion.text) for criterion in spec.criteria]


FULL = """\
---
component: calculator
source: src/calculator
tests: tests
modules: [calculator.*]
coverage: 85
target: production
extras: [test]
---
Some words before the title.

# The calculator

It calculates.

## Acceptance criteria

1. `evaluate` returns *one* number.
2. Division by zero
   raises `DivisionError`.

## Notes

- not a criterion
"""


def test_front_matter_title_and_criteria_are_read(tmp_path: Path) -> None:
    """Everything a spec can say arrives, and lists of other sections are no criteria."""
    spec = spec_of(tmp_path, FULL)
    assert (spec.component, spec.source, spec.tests) == ("calculator", "src/calculator", "tests")
    assert (spec.coverage, spec.target) == (85.0, Target.PRODUCTION)
    assert (spec.modules, spec.extras) == (("calculator.*",), ("test",))
    assert (spec.title, spec.name) == ("The calculator", "slug.md")
    assert spec.text.startswith("Some words")
    assert "component:" not in spec.text
    assert ids_and_texts(spec) == [
        ("AC1", "`evaluate` returns one number."),
        ("AC2", "Division by zero raises `DivisionError`."),
    ]


def test_a_plain_markdown_file_is_a_spec(tmp_path: Path) -> None:
    """Without front matter, heading or criteria, the file's name is the title and the rest is left to conventions."""
    spec = spec_of(tmp_path, "Make it fast.\n", name="speed.md")
    assert (spec.title, spec.component, spec.target, spec.criteria) == ("speed", None, None, ())


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("- AC7: adds up", ("AC7", "adds up")),
        ("- **AC-7** adds up", ("AC-7", "adds up")),
        ("- **AC-7:** adds up", ("AC-7", "adds up")),
        ("- **AC7**: adds up", ("AC7", "adds up")),
        ("- [ ] REQ-NET-2.1: adds up", ("REQ-NET-2.1", "adds up")),
        ("- [x] adds up", ("AC1", "adds up")),
        ("* (R3) adds up", ("R3", "adds up")),
        ("* [AC3]: adds up", ("AC3", "adds up")),
        ("1. AC 3: adds up", ("AC3", "adds up")),
        ("1. AC3 - adds up", ("AC3", "adds up")),
        ("- Python 3 is enough", ("AC1", "Python 3 is enough")),
        ("- **Must** add up", ("AC1", "Must add up")),
        ("- adds up:\n    - ones\n    - tens", ("AC1", "adds up: ones; tens")),
        ("- adds up\n\n  ```\n  1 +\n  1\n  ```", ("AC1", "adds up `1 + 1`")),
        ("- adds [up](http://example.org)", ("AC1", "adds up")),
    ],
)
def test_labels_and_markup_of_criteria(tmp_path: Path, item: str, expected: tuple[str, str]) -> None:
    """An author's label becomes the id; markup, boxes and nesting become one line of text."""
    assert ids_and_texts(spec_of(tmp_path, f"# T\n\n## Acceptance\n\n{item}\n")) == [expected]


@pytest.mark.parametrize("heading", ["Acceptance Criteria", "CRITERIA", "Functional requirements", "Acceptance"])
def test_headings_that_open_criteria(tmp_path: Path, heading: str) -> None:
    """Criteria are found under the usual headings, in subsections too, until the next heading of that level."""
    text = f"# T\n## {heading}\n### First\n- one\n### Second\n- two\n## After\n- three\n"
    assert [criterion.text for criterion in spec_of(tmp_path, text).criteria] == ["one", "two"]


def test_ids_are_unique(tmp_path: Path) -> None:
    """Labels that are used again, and numbers that an author took, do not give two criteria one id."""
    text = "# Story\n## Acceptance\n- AC2: a\n- b\n- c\n# Story\n## Acceptance\n- AC2: d\n"
    spec = spec_of(tmp_path, text)
    assert [criterion.text for criterion in spec.criteria] == ["a", "b", "c", "d"]
    assert [criterion.id for criterion in spec.criteria] == ["AC2", "AC2-2", "AC3", "AC2-3"]


def test_a_code_block_with_a_heading_opens_nothing(tmp_path: Path) -> None:
    """Markdown is parsed, not searched line by line."""
    assert not spec_of(tmp_path, "# T\n\n```\n## Acceptance criteria\n- no\n```\n").criteria


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    """What Windows editors leave in a file hides neither front matter nor criteria."""
    spec = spec_of(tmp_path, b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert spec.component == "calculator"
    assert len(spec.criteria) == 2


def test_a_missing_spec_names_its_neighbours(tmp_path: Path) -> None:
    """A misspelt path is answered with the names that are close to it."""
    spec_of(tmp_path, "# T", name="calculator.md")
    with pytest.raises(SpecError, match="There is no spec") as caught:
        read_spec(tmp_path / "calcluator.md")
    assert "calculator.md" in caught.value.hint
    with pytest.raises(SpecError, match="no folder"):
        read_spec(tmp_path / "nowhere" / "calculator.md")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that would block for ever, and a path no system can have, are named as what they are."""
    with pytest.raises(SpecError, match="is a folder"):
        read_spec(tmp_path)
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(SpecError, match="not a regular file"):
        read_spec(tmp_path / "pipe.md")
    with pytest.raises(SpecError):
        read_spec(Path("a\0b"))
    with pytest.raises(SpecError, match=r"cannot be read|no spec"):
        read_spec(tmp_path / ("x" * 5000))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """The size is asked for before the content."""
    path = tmp_path / "huge.md"
    with path.open("wb") as file:
        file.truncate(50 << 30)  # sparse: reading it would exhaust memory
    with pytest.raises(SpecError, match=r"51200.0 MiB"):
        read_spec(path)
    assert MAX_BYTES == 1 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not text in UTF-8"),
        ("# T".encode("utf-16"), "not text in UTF-8"),
        (b"# caf\xe9", "not text in UTF-8"),
        (b"# T\0", "not text in UTF-8"),
        ("---\ncomponent: a: b\n---\n# T", "line 2"),
        ("---\ncomponent: a\ntests: [\n---\n# T", "line 4"),
        ("---\n- a\n---\n# T", "not a mapping"),
        ("---\ncoverage: abc\n---\n# T", "coverage: 'abc'"),
        ("---\ncoverage: true\n---\n# T", "coverage: True"),
        ("---\ncoverage: 101\n---\n# T", "coverage: 101"),
        ("---\ntarget: moon\n---\n# T", "target: 'moon'"),
        ("---\nsource: ../x\n---\n# T", "source: '../x'"),
        ("---\ntests: /x\n---\n# T", "tests: '/x'"),
        ("---\ncomponent: [a]\n---\n# T", "component"),
        ("---\n1: a\n---\n# T", "'1'"),
        ("---\nx: " + "[" * 5000 + "\n---\n# T", "nested too deeply"),
    ],
)
def test_bad_content_gets_one_clear_message(tmp_path: Path, content: str | bytes, message: str) -> None:
    """Each way a file can fail to be a spec is named, with its line or value where there is one."""
    fault = fault_of(tmp_path, content)
    assert message in fault.message
    assert "\n" not in str(fault)


def test_an_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    """A typing error in the front matter is not ignored, and its correction is suggested."""
    fault = fault_of(tmp_path, "---\ncomponant: a\n---\n# T")
    assert "'componant'" in fault.message
    assert "'component'?" in fault.hint
    assert "coverage" in fault.hint


def test_front_matter_runs_no_code(tmp_path: Path) -> None:
    """YAML tags that make objects are refused."""
    assert "not YAML" in fault_of(tmp_path, "---\ncomponent: !!python/object/apply:os.getcwd []\n---\n").message
