"""The command line, ``tta``: one file a group of commands."""

from __future__ import annotations

from importlib.metadata import version

import click

from orchestrator.cli.cache import cache
from orchestrator.cli.doctor import doctor
from orchestrator.cli.engines import engines
from orchestrator.cli.faults import Group
from orchestrator.cli.flower import flower
from orchestrator.cli.metrics import metrics
from orchestrator.cli.promotion import approve, reject
from orchestrator.cli.releases import releases, rollback
from orchestrator.cli.run import run, submit
from orchestrator.cli.runs import cancel, list_, results, resume, retry, status, watch
from orchestrator.cli.serve import serve
from orchestrator.cli.stack import down, up
from orchestrator.cli.top import top
from orchestrator.cli.worker import health, worker

EPILOG = """
Exit codes: 0 all went well; 1 a stage or a gate failed; 2 wrong use (spec, component, options, settings); 3 broker or
store out of reach, or no room; 130 interrupted.
"""


@click.group(
    cls=Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version("tta-tasks"), prog_name="tta")
def main() -> None:
    """Bring a component from a Markdown spec to a deployed release.

    Tests are written while it is refactored, on Celery workers; what holds is kept, verified, and released to staging
    and production.

    Without TTA_BROKER_URL everything runs here, on an embedded broker that is gone afterwards.
    """


COMMANDS = (
    *(run, submit, list_, status, watch, results, approve, reject, cancel, resume, retry),
    *(releases, rollback),
    *(up, down, doctor, engines, cache),
    *(worker, serve, health, top, flower, metrics),
)

for command in COMMANDS:
    main.add_command(command)
