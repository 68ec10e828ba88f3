"""The documentation, held against the code it speaks of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import SecretStr

from orchestrator import project, spec
from orchestrator.cli import main
from orchestrator.report import FORMS, Report
from tta_tasks import errors, models, plugins
from tta_tasks.kinds import KINDS
from tta_tasks.models import Priority
from tta_tasks.queues import transport_priority
from tta_tasks.settings import Settings
from workers.deployers.checks import Health
from workers.deployers.compose import ComposeTarget
from workers.deployers.image import Image
from workers.deployers.kubernetes import KubernetesTarget
from workers.deployers.local import LocalTarget, ServiceConfig
from workers.deployers.targets import EnvironmentConfig, PromotionRule

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: ``tta`` at the beginning of a command, with what follows it up to the end of the command.
COMMAND = re.compile(r"(?:^|[\s/`=])tta ((?:[a-z]+\b)[^`\n|]*)")
SHELLS = {"", "sh", "bash", "console"}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def _slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {_slug(heading) for heading in headings}


def _rows(page: Path, column: int = 0) -> dict[str, list[str]]:
    """The tables' rows of a page by the code in their first cell."""
    rows = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and (key := re.match(r"`([^`]+)`", cells[column])):
            rows[key[1]] = cells
    return rows


# -- links and examples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_a_page_and_a_heading_that_are_there(page: Path) -> None:
    """No link inside the repository is broken."""
    broken = []
    for token in _tokens(page):
        target = str(token.attrs.get("href", ""))
        if not target or "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in _anchors(linked)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_examples_compile(page: Path) -> None:
    """Every fenced Python example is Python, and imports from this project what is there."""
    for token in _tokens(page):
        if token.type == "fence" and token.info == "python":
            compile(token.content, _name(page), "exec")
            imports = re.findall(r"^from (?:tta_tasks|orchestrator|workers).*$", token.content, re.MULTILINE)
            exec("\n".join(imports), {})  # noqa: S102 - lines of our own documentation


# -- the command line -------------------------------------------------------------------------------------------------


def _top() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, command


def _commands() -> Iterator[tuple[str, click.Command]]:
    for name, command in _top():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", under) for child, under in command.commands.items())


def _mentioned(page: Path) -> Iterator[str]:
    """Every command line of ``tta`` in code on a page, without ``tta``."""
    for token in _tokens(page):
        if token.type == "code_inline" or (token.type == "fence" and token.info in SHELLS):
            yield from COMMAND.findall(token.content)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_options_that_are_mentioned_exist(page: Path) -> None:
    """Nobody is told to type what ``tta`` does not understand."""
    commands = dict(_commands())
    wrong = []
    for line in _mentioned(page):
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands else words[0]
        command = commands.get(name)
        if command is None:
            wrong.append(f"tta {line}")
            continue
        known = {opt for each in command.params for opt in each.opts} | {"--help", "-h"}
        wrong += [f"tta {name} {word}" for word in words if re.match(r"--?[a-z]", word) and word not in known]
    assert not wrong


def test_reference_of_the_command_line_is_complete() -> None:
    """Each command has a section with each of its options, and the variables these are read from."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    sections = {part.splitlines()[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)}
    for name, command in _top():
        section = sections[f"tta {name}"]
        for option in command.params:
            if isinstance(option, click.Option):
                named = [*option.opts, *([str(option.envvar)] if option.envvar else [])]
                assert all(f"`{each}" in section for each in named), (name, named)


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["run", "nowhere.md"], {}, 2),
        (["list"], {"TTA_RETENTION_S": "soon"}, 2),
        (["down"], {"TTA_BROKER_URL": "http://:geheim@127.0.0.1"}, 2),
        (["list"], {"TTA_BROKER_URL": "redis://127.0.0.1:1"}, 3),
        (["status", "nobody"], {}, 1),
    ],
)
def test_exit_codes_are_those_of_the_reference(
    arguments: list[str], environment: dict[str, str], code: int, monkeypatch: pytest.MonkeyPatch, valkey_url: str
) -> None:
    """A foreseeable fault ends with its code and a message, without traceback or password."""
    for name, value in ({"TTA_BROKER_URL": valkey_url} | environment).items():
        monkeypatch.setenv(name, value)
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == code
    assert ended.stderr.startswith("error: ")
    assert "geheim" not in ended.output


# -- references -------------------------------------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default() -> None:
    """``settings.md`` has each variable that is read, no other, and the default that it has."""
    rows = {key: cells for key, cells in _rows(REFERENCE / "settings.md").items() if key.startswith("TTA_")}
    assert not set(rows) ^ {f"TTA_{name.upper()}" for name in Settings.model_fields}
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    secrets = [name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr]
    assert not [name for name in secrets if f"`TTA_{name}_FILE`" not in text]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        shown = "none" if plain is None else str(plain)
        cell = rows[f"TTA_{name.upper()}"][1].replace("`", "")
        assert cell.partition(" (")[0] == (shown or "empty"), name


def test_every_key_of_a_component_and_a_spec_is_documented() -> None:
    """``component.md`` has each key of ``[tool.tta]``, of its gates, and of a spec's front matter."""
    table = set(project.ComponentTable.model_fields) - {"modules", "gates"}
    modules = {f"modules.{name}" for name in project.ModulesTable.model_fields}
    known = table | modules | set(models.Gates.model_fields) | set(spec.FrontMatter.model_fields)
    assert not set(_rows(REFERENCE / "component.md")) ^ known


def test_default_gates_are_those_of_the_reference() -> None:
    """The table of gates says what each target asks for."""
    text = (REFERENCE / "component.md").read_text(encoding="utf-8")
    gates = text.partition("### `[tool.tta.gates]`")[2].partition("## Spec")[0]
    for name in models.Gates.names():
        row = next(line for line in gates.splitlines() if line.startswith(f"| `{name}`"))
        shown = [cell.strip() for cell in row.split("|")[3:6]]
        asked = [getattr(models.DEFAULT_GATES[target], name) for target in models.Target]
        assert shown == [str(value).lower() if isinstance(value, bool) else f"{value:g}" for value in asked]


def test_every_key_of_a_target_is_documented() -> None:
    """``targets.md`` has each key that the local deployer reads, and each of promotion."""
    rows = set(_rows(REFERENCE / "targets.md"))
    health = {f"health.{name}" for name in Health.model_fields}
    serve = {f"serve.{name}" for name in ServiceConfig.model_fields}
    promotion = {f"promotion.{name}" for name in PromotionRule.model_fields}
    image = {f"image.{name}" for name in Image.model_fields}
    promotion |= image | {*ComposeTarget.model_fields, *KubernetesTarget.model_fields}
    assert {*EnvironmentConfig.model_fields, *LocalTarget.model_fields, *health, *serve, *promotion} <= rows


def test_every_deployer_is_documented() -> None:
    """``targets.md`` has the keys of each deployer of this project, found as a worker finds it."""
    rows = set(_rows(REFERENCE / "targets.md"))
    for name in plugins.names(plugins.DEPLOYERS):
        deployer = plugins.load(plugins.DEPLOYERS, name)
        assert set(deployer.target_type.model_fields) <= rows, name


def test_every_page_is_listed() -> None:
    """``docs/README.md`` leads to each page."""
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = (page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs"))
    assert not [page for page in pages if page != "README.md" and f"({page})" not in listed]


def test_every_field_of_the_report_is_documented() -> None:
    """``report.md`` names each field of ``report.json``, and each form's file."""
    text = (REFERENCE / "report.md").read_text(encoding="utf-8")
    assert not [name for name in FORMS.values() if f"`{name}`" not in text]
    assert not [name for name in Report.model_fields if f"`{name}`" not in text]


def test_every_error_is_documented() -> None:
    """``errors.md`` names each class of the tree, and no other."""
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    known = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert not {"TtaError", *re.findall(r"── (\w+)", text)} ^ known


def test_messages_to_look_for_are_given() -> None:
    """Each message of ``troubleshoot.md`` is one that the code can give."""
    given = {text for package in ("tta_tasks", "workers", "orchestrator") for text in _texts(ROOT / package)}
    for line in (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8").splitlines():
        cell = line.split(" | ")[0] if line.startswith("| ") else ""
        for said in (said for said in re.findall(r"`([^`]+)`", cell) if " " in said and not said.startswith("tta ")):
            pattern = re.compile(".*".join(map(re.escape, said.split("…"))))
            assert any(pattern.search(text) for text in given), said


def _texts(package: Path) -> Iterator[str]:
    """Every string that the code of a package holds; for what is put in, an ellipsis."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_queues_and_priorities_are_those_of_the_reference() -> None:
    """``queues.md`` has each kind of task as the table of kinds has it, and each priority with its numbers."""
    rows = _rows(REFERENCE / "queues.md")
    for kind in KINDS:
        queue, task, request, result, *flags = (cell.strip("`") for cell in rows[kind.queue])
        assert (queue, task) == (kind.queue, kind.task)
        assert (request, result) == (kind.request.__name__, kind.result.__name__)
        assert flags == [
            "goes on" if kind.optional else "stops",
            "yes" if kind.cached else "no",
            str(kind.retry.max_retries),
        ]
    for priority in Priority:
        shown = [cell.partition(" ")[0] for cell in rows[priority][1:3]]
        assert shown == [str(transport_priority(priority, transport)) for transport in ("redis", "amqp")]
    assert {status.value for status in models.Status} <= set(rows)


def test_every_key_in_redis_is_documented() -> None:
    """``queues.md`` has each key that code or a script writes below the prefix."""
    in_python = r"\{(?:self\._|settings\.key_|self\._settings\.key_|chosen\.key_)?prefix\}([a-z-]+)"
    patterns = {".py": in_python, ".lua": r"prefix \.\. '([a-z-]+)"}
    written = {
        key
        for package in ("tta_tasks", "workers", "orchestrator")
        for path in (ROOT / package).rglob("*")
        if path.suffix in patterns
        for key in re.findall(patterns[path.suffix], path.read_text(encoding="utf-8"))
    }
    listed = (REFERENCE / "queues.md").read_text(encoding="utf-8").partition("## Keys in Redis")[2]
    # Parts of `model:...`, and a list that is never there.
    assert written - {"places", "requests", "trial", "breaker", "nothing"} <= set(re.findall(r"`([a-z-]+)", listed))
    assert {"task", "run", "ends", "artifact", "backlog"} <= written


def test_every_rejection_code_is_documented() -> None:
    """``acceptance.md`` has each code that acceptance gives, and no other."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "workers" / "acceptance").glob("*.py")]
    patterns = (
        r'reason="(\w+)"',
        r'Fault\("(\w+)"',
        r'reject\(\w+, "(\w+)"',
        r'reject_file\(\w+, "(\w+)"',
        r'reject_all\(\s*"(\w+)"',
        r'"(skipped|hangs|crashes)": ',
    )
    given = {code for source in sources for pattern in patterns for code in re.findall(pattern, source)}
    rows = set(_rows(REFERENCE / "acceptance.md")) - {"coverage", "mutant"}
    assert not rows ^ given


def test_every_test_of_the_threat_model_exists() -> None:
    """A promise without its test would be a claim."""
    text = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
    files = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", text))
    defined = {name for content in files.values() for name in re.findall(r"^ *def (test_\w+)\(", content, re.MULTILINE)}
    assert len(named) > 40
    assert named <= defined | set(files)
