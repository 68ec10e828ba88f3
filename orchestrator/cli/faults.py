"""Faults as a person sees them: one message, what to do next, an exit code; no traceback for what can be foreseen."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from tta_tasks.errors import (
    ArtifactTooLarge,
    SettingsError,
    SnapshotError,
    TransientError,
    TtaError,
    UsageError,
)

OK: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
UNAVAILABLE: Final = 3
INTERRUPTED: Final = 130


class Group(click.Group):
    """A group whose commands end foreseeable faults with a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run the chosen command."""
        try:
            if not {*ctx.help_option_names} & {*ctx.args}:
                from tta_tasks.settings import read  # noqa: PLC0415 - may be interrupted, too

                read()  # a wrong variable is told here, in our words and without its value
            return super().invoke(ctx)
        except TtaError as error:
            say(error.message, error.hint)
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # whoever reads has seen enough; click ends quietly
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            say(f"{error.strerror or error}{where}.", "Is there room on the disk, and may this user write there?")
            sys.exit(UNAVAILABLE)


def say(message: str, hint: str = "") -> None:
    """Print a fault to standard error."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.echo(f"       {hint}", err=True)


def exit_code(error: TtaError) -> int:
    """The exit code that tells a script what kind of fault it was."""
    if isinstance(error, UsageError | SettingsError | SnapshotError | ArtifactTooLarge):
        return WRONG_USE
    return UNAVAILABLE if isinstance(error, TransientError) else FAILED
