"""The command line, ``tta``: one file a group of commands."""

from __future__ import annotations

from importlib import import_module

import click

from orchestrator.cli.faults import Group

EPILOG = """
Exit codes: 0 all went well; 1 a stage or a gate failed; 2 wrong use (spec, component, options, settings); 3 broker or
store out of reach, or no room; 130 interrupted.
"""


#: Command -> its module here, in which it has the same name, or that with an underscore.
COMMANDS = {
    **dict.fromkeys(("run", "submit"), "run"),
    **dict.fromkeys(("list", "status", "watch", "results", "cancel", "resume", "retry"), "runs"),
    **dict.fromkeys(("approve", "reject"), "promotion"),
    **dict.fromkeys(("releases", "rollback"), "releases"),
    **dict.fromkeys(("up", "down"), "stack"),
    **dict.fromkeys(("worker", "health"), "worker"),
    **{name: name for name in ("doctor", "engines", "cache", "serve", "top", "flower", "metrics")},
}


class Commands(Group):
    """Imports a command when it is called: all of them would take longer than most of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        """Their names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's own
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"orchestrator.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        return command


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="tta-tasks", prog_name="tta")
def main() -> None:
    """Bring a component from a Markdown spec to a deployed release.

    Tests are written while it is refactored, on Celery workers; what holds is kept, verified, and released to staging
    and production.

    Without TTA_BROKER_URL everything runs here, on an embedded broker that is gone afterwards.
    """
