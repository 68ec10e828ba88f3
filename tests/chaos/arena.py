"""Where a session is held: servers, proxies before them, workers, and their environment."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import effects, journal
from tests.chaos.crew import Crew
from tests.chaos.faults import Havoc
from tests.chaos.server import Proxy, Server
from tests.chaos.switches import Switches
from tta_tasks.queues import NAMES
from workers.deployers.release_store import ReleaseStore

#: Seconds; short, so that what is lost is found within a session.
VISIBILITY_S = 3.0
#: Seconds; longer than a short deed takes, notes included, so that workers go on with others on its message.
QUICK_TASK_S = 0.5
RECONCILE_S = 1.0
TASK_TIMEOUT_S = 20
SLOTS = 2
#: Components whose releases go to staging; those of runs go to production, too.
COMPONENTS = ("chaos", "chaos-0", "chaos-1", "chaos-2")
CELERY = (
    *("--app", "workers", "worker", "--hostname", "chaos-{number}@%h", "--queues", ",".join(NAMES)),
    *("--concurrency", str(SLOTS), "--without-gossip", "--without-mingle"),
)


@dataclass(frozen=True)
class Session:
    """What a session is made of.

    Args:
        seed: Decides load and faults.
        tasks: About how many tasks.
        workers: How many workers, of two slots each.
        seconds: For how long tasks come and things go wrong.
        every_s: About how often something goes wrong, in seconds.
        broker: URL of a RabbitMQ whose queues may be emptied; empty for the session's own Redis.
    """

    seed: int
    tasks: int
    workers: int
    seconds: float
    every_s: float
    broker: str = ""


@dataclass(frozen=True)
class Arena:
    """What is there while the session is held."""

    folder: Path
    havoc: Havoc
    switches: Switches


def environment(folder: Path, broker: str, redis: str) -> dict[str, str]:
    """The environment of workers and producer."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "TTA_BROKER_URL": broker,
        "TTA_RESULT_URL": redis,
        "TTA_CACHE_DIR": str(folder / "cache"),
        "TTA_VISIBILITY_TIMEOUT_S": str(VISIBILITY_S),
        "TTA_RECONCILE_INTERVAL_S": str(RECONCILE_S),
        "TTA_QUICK_TASK_S": str(QUICK_TASK_S),
        "TTA_TASK_TIMEOUT_S": str(TASK_TIMEOUT_S),
        "TTA_TASK_GRACE_S": "1",
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(__file__).parent / "installed"),
        journal.VARIABLE: str(folder / "journal"),
    }


@contextlib.contextmanager
def arena(
    session: Session, folder: Path, celery: Sequence[str], variables: Callable[[Path, str, str], dict[str, str]]
) -> Iterator[Arena]:
    """A server, proxies before it and the broker, and workers, all of which end with the block.

    Args:
        session: How many workers, and which broker.
        folder: Where everything they keep is.
        celery: The arguments of a worker.
        variables: The environment of workers and of this process, for the folder and the URLs of broker and Redis.
    """
    effects.make_wheel(folder)
    stores = [ReleaseStore(folder / "sites" / component / "staging") for component in COMPONENTS]
    switches = Switches([*stores, ReleaseStore(folder / "sites" / COMPONENTS[0] / "production")])
    server = Server(folder)
    server.start()
    proxies = [Proxy(url) for url in (server.url, session.broker) if url]
    for proxy in proxies:
        proxy.start()
    chosen = variables(folder, proxies[-1].url, proxies[0].url)
    os.environ.update(chosen)
    crew = Crew(folder, celery, chosen)
    try:
        for number in range(session.workers):
            crew.start(number)
        threading.Thread(target=crew.watch, name="supervisor", daemon=True).start()
        yield Arena(folder, Havoc(crew, server, proxies, VISIBILITY_S), switches)
    finally:
        crew.end()
        for proxy in proxies:
            proxy.stop()
        server.end()
