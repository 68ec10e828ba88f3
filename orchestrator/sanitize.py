"""Makes text of others safe to show: test names, messages and paths are written by the code under test."""

from __future__ import annotations


def sanitize(text: str, limit: int = 500) -> str:
    """``text`` in one line without control characters or escape sequences, cut to ``limit`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}\u2026"


def sanitize_lines(text: str, limit: int = 40) -> str:
    """The last ``limit`` lines of ``text``, each without control characters; indentation stays."""
    lines = text.expandtabs(4).splitlines()[-limit:]
    return "\n".join("".join(char if char.isprintable() else "\ufffd" for char in line)[:500] for line in lines)
