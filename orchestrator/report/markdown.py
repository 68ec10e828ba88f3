"""The report as Markdown, for pull requests and terminals. Texts of others cannot add markup of their own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.report import wording
from orchestrator.report.model import Report
from orchestrator.sanitize import sanitize, sanitize_lines

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~&!@$])")


def to_markdown(report: Report) -> str:
    """Render ``report``."""
    created = datetime.fromtimestamp(report.created_at, UTC)
    # The template is Markdown, so what would be HTML's escaping is done by ``finalize``.
    return _environment().get_template("report.md").render(report=report, created=created)


class _Verbatim(str):
    """Text that is Markdown already."""

    __slots__ = ()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - not HTML
        loader=PackageLoader("orchestrator"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_escaped,
    )
    environment.filters.update(seconds=wording.seconds, percent=wording.percent, reason=wording.reason, fenced=_fenced)
    environment.globals.update(
        counted=wording.counted, change=wording.change, usage=wording.usage, decided=wording.decided
    )
    return environment


def _escaped(value: object) -> object:
    if isinstance(value, _Verbatim) or not isinstance(value, str):
        return value
    return _MARKUP.sub(r"\\\1", sanitize(value))


def _fenced(text: str) -> _Verbatim:
    """A code block that ``text`` cannot close."""
    lines = sanitize_lines(text)
    longest = max((len(run) for run in re.findall(r"`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return _Verbatim(f"{fence}text\n{lines}\n{fence}")
