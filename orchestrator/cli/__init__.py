"""The command line, ``tta``: one file a group of commands."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from orchestrator.cli.faults import WRONG_USE, Group, say
from tta_tasks import extras

EPILOG = """
Exit codes: 0 all went well; 1 a stage or a gate failed; 2 wrong use (spec, component, options, settings, a missing
extra); 3 broker or store out of reach, or no room; 130 interrupted.
"""
INSTALL = "Install them: pip install 'tta-tasks[cli]', on a worker host 'tta-tasks[worker]', for both 'tta-tasks[all]'."


#: Command -> its module here, in which it has the same name, or that with an underscore.
COMMANDS = {
    **dict.fromkeys(("run", "submit"), "run"),
    **dict.fromkeys(("list", "status", "watch", "results", "cancel", "resume", "retry"), "runs"),
    **dict.fromkeys(("approve", "reject"), "promotion"),
    **dict.fromkeys(("releases", "rollback"), "releases"),
    **dict.fromkeys(("up", "down"), "stack"),
    **dict.fromkeys(("worker", "health"), "worker"),
    **{name: name for name in ("adopt", "doctor", "engines", "cache", "serve", "top", "flower", "metrics")},
}


#: Module -> the extra that its commands need; all others need ``cli``.
EXTRAS = {
    **dict.fromkeys(("worker", "doctor", "engines", "serve"), "worker"),
    **{name: name for name in ("flower", "metrics")},
}


class Commands(Group):
    """Imports a command when it is called: all of them would take longer than most of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        """Names of those whose extra is installed."""
        installed = {extra for extra in ("cli", *EXTRAS.values()) if not extras.missing(extra)}
        if not installed:
            say("`tta` needs packages that are not installed here.", INSTALL)
            sys.exit(WRONG_USE)
        return sorted(name for name, module in COMMANDS.items() if EXTRAS.get(module, "cli") in installed)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to invoke.

        Raises:
            SettingsError: Its extra is not installed.
        """
        if module := COMMANDS.get(args[0]):
            extras.require(EXTRAS.get(module, "cli"), f"`tta {args[0]}`")
        return super().resolve_command(ctx, args)

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
