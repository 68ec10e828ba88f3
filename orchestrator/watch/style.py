"""Glyphs and colours of the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from orchestrator.sanitize import sanitize
from tta_tasks.models import Status

_GLYPHS = {
    Status.QUEUED: ("\u00b7", "."),
    Status.PARKED: ("\u2016", "="),
    Status.RUNNING: ("\u25b8", ">"),
    Status.COMPLETED: ("\u2713", "+"),
    Status.FAILED: ("\u2717", "x"),
    Status.SKIPPED: ("\u2013", "-"),
    Status.CANCELLED: ("\u2013", "-"),
}
COLOURS = {
    Status.QUEUED: "dim",
    Status.PARKED: "yellow",
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.SKIPPED: "dim",
    Status.CANCELLED: "yellow",
}
_ASCII = {"\u2192": "->", "\u2013": "-", "\u2026": "...", "\u00b7": "|"}


def glyph(status: Status, console: Console) -> Text:
    """The mark of ``status``."""
    return Text(_GLYPHS[status][console.options.ascii_only], style=COLOURS[status])


def spoken(text: str, console: Console, limit: int = 500) -> str:
    """``text`` of others in one line, in characters that ``console`` can show."""
    line = sanitize(text, limit)
    if not console.options.ascii_only:
        return line
    for char, ascii_ in _ASCII.items():
        line = line.replace(char, ascii_)
    return line.encode("ascii", "replace").decode()
