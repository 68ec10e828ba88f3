"""The report as one HTML page: no script, nothing fetched, every text of others escaped."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import wording
from orchestrator.report.chart import draw
from orchestrator.report.model import Report
from orchestrator.sanitize import sanitize_lines


def to_html(report: Report) -> str:
    """Render ``report``."""
    environment = _environment()
    css = environment.loader.get_source(environment, "report.css")[0] if environment.loader else ""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        report=report,
        chart=draw(report.timeline),
        css=Markup(css),  # noqa: S704 - our own file
        csp=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        created=datetime.fromtimestamp(report.created_at, UTC),
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestrator"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(
        seconds=wording.seconds, percent=wording.percent, reason=wording.reason, lines=sanitize_lines
    )
    environment.globals.update(
        counted=wording.counted, change=wording.change, usage=wording.usage, decided=wording.decided
    )
    return environment


def _visible(value: object) -> object:
    """Without control characters, which HTML cannot hold and which could turn the writing direction."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in value)
