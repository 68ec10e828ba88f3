"""``python -m tests.chaos``: hold one session of chaos, print its report, and fail when anything did not hold."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos import contrast
from tests.chaos.arena import Session
from tests.chaos.driver import run


def main() -> int:
    """Hold the session that the arguments describe."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="repeats a session")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long tasks come and things go wrong")
    parser.add_argument("--every", type=float, default=6.0, help="about how often something goes wrong, in seconds")
    parser.add_argument("--broker", default="", metavar="URL", help="a RabbitMQ >= 4, whose queues are emptied")
    parser.add_argument("--plain", type=float, metavar="SECONDS", help="plain Celery, with this visibility timeout")
    parser.add_argument("--folder", type=Path, help="where its record and logs stay")
    chosen = parser.parse_args()
    sys.stderr.write(f"seed {chosen.seed}\n")
    session = Session(chosen.seed, chosen.tasks, chosen.workers, chosen.seconds, chosen.every, chosen.broker)
    with tempfile.TemporaryDirectory(prefix="tta-chaos-") as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if chosen.plain is None:
            report = run(session, folder.absolute())
        else:
            report = contrast.run(session, folder.absolute(), chosen.plain)
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    return 1 if report.get("violations") else 0


if __name__ == "__main__":
    sys.exit(main())
