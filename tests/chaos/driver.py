"""One session of chaos: a load, faults, a quiet end, and a look at what is left."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.chaos import invariants, journal
from tests.chaos.crew import Crew
from tests.chaos.deeds import ORPHAN_S
from tests.chaos.faults import Havoc, schedule
from tests.chaos.load import load
from tests.chaos.producer import Producer
from tests.chaos.server import Proxy, Server, processes_with
from tta_tasks.client import TaskClient
from tta_tasks.errors import RecordMissing, TransientError
from tta_tasks.models import Status
from tta_tasks.queues import NAMES
from tta_tasks.settings import settings

#: Seconds; short, so that what is lost is found within a session.
VISIBILITY_S = 3.0
RECONCILE_S = 1.0
TASK_TIMEOUT_S = 10
SLOTS = 2
#: How long everything may take to end once nothing goes wrong any more, in seconds.
SETTLE_S = 120.0
#: How long the broker may take to be rid of what had ended already. A visibility timeout and kombu's look every 5 s
#: would be 8 s; once 15 messages were still held after 30 s, on a busy machine. Copies that wait for their retry (at
#: most 48 s) would explain it, but it was not traced.
DRAIN_S = 120.0
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
    """

    seed: int
    tasks: int
    workers: int
    seconds: float
    every_s: float


def environment(folder: Path, url: str) -> dict[str, str]:
    """The environment of workers and producer."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "TTA_BROKER_URL": url,
        "TTA_CACHE_DIR": str(folder / "cache"),
        "TTA_VISIBILITY_TIMEOUT_S": str(VISIBILITY_S),
        "TTA_RECONCILE_INTERVAL_S": str(RECONCILE_S),
        "TTA_TASK_TIMEOUT_S": str(TASK_TIMEOUT_S),
        "TTA_TASK_GRACE_S": "1",
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(__file__).parent / "installed"),
        journal.VARIABLE: str(folder / "journal"),
    }


@contextlib.contextmanager
def arena(
    session: Session, folder: Path, celery: Sequence[str], variables: Callable[[str], dict[str, str]]
) -> Iterator[Havoc]:
    """A server, a proxy before it and workers, all of which end with the block.

    Args:
        session: How many workers.
        folder: Where everything they keep is.
        celery: The arguments of a worker.
        variables: The environment of workers and of this process, for the broker's URL.
    """
    server = Server(folder)
    server.start()
    proxy = Proxy(server.port)
    proxy.start()
    chosen = variables(proxy.url)
    os.environ.update(chosen)
    crew = Crew(folder, celery, chosen)
    try:
        for number in range(session.workers):
            crew.start(number)
        threading.Thread(target=crew.watch, name="supervisor", daemon=True).start()
        yield Havoc(crew, server, proxy, VISIBILITY_S)
    finally:
        crew.end()
        proxy.stop()
        server.end()


def run(session: Session, folder: Path) -> dict[str, Any]:
    """Hold a session below ``folder``; answer its report, with the list of ``violations``."""
    with arena(session, folder, CELERY, lambda url: environment(folder, url)) as havoc:
        settings.cache_clear()
        with TaskClient.connect() as client:
            producer = Producer(client, session.seed)
            began = time.monotonic()
            items = load(session.seed, session.tasks, session.seconds)
            hands = threading.Thread(target=producer.produce, args=(items, began), name="producer")
            hands.start()
            go_wrong(session, havoc, began)
            hands.join()
            return aftermath(session, folder, producer, havoc)


def go_wrong(session: Session, havoc: Havoc, began: float) -> None:
    """Let the faults of the session happen, at their times."""
    for fault in schedule(session.seed, session.seconds, session.every_s, session.workers):
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        havoc.wreak(fault)


def aftermath(session: Session, folder: Path, producer: Producer, havoc: Havoc) -> dict[str, Any]:
    """Wait until all is quiet, send the workers home, and look at what is left."""
    quiet = time.monotonic()
    seen, waiting = settled(producer.client, list(producer.accepted))
    settle_s = round(time.monotonic() - quiet, 1)
    with redis.Redis.from_url(havoc.server.url) as direct:
        drained(direct)
        stubborn = havoc.crew.stop()
        problems = violations(folder, direct, producer, seen)
    problems += [f"{len(waiting)} accepted tasks were never told as ended"] if waiting else []
    problems += [f"worker {number} did not end when asked to" for number in stubborn]
    return report(session, folder, producer, havoc) | {"settled within": settle_s, "violations": problems}


def settled(client: TaskClient, ids: list[str]) -> tuple[dict[str, Status], set[str]]:
    """Wait for the ends of all, as a producer does; answer how they were seen to end, and who did not."""
    seen: dict[str, Status] = {}
    until = time.monotonic() + SETTLE_S
    while len(seen) < len(ids) and (left := until - time.monotonic()) > 0:
        try:
            for task_id, result in client.results(set(ids) - set(seen), timeout=left):
                seen[task_id] = result.status
        except TimeoutError:
            break
        except TransientError:
            time.sleep(0.2)
    return seen, set(ids) - set(seen)


def drained(direct: redis.Redis) -> None:
    """Give what was not acknowledged, as its connection had broken, the time to come again and be thrown away."""
    until = time.monotonic() + DRAIN_S
    while direct.exists(f"{settings().key_prefix}unacked") and time.monotonic() < until:
        time.sleep(0.2)


def violations(folder: Path, direct: redis.Redis, producer: Producer, seen: dict[str, Status]) -> list[str]:
    """Everything that does not hold at the end."""
    entries = journal.read(folder / "journal")
    found: list[str] = []
    try:
        found += invariants.ended_as_they_must(producer.client.ledger, producer.accepted, seen, entries)
        found += invariants.released_once(producer.client.ledger, producer.accepted, entries)
    except RecordMissing as error:
        found.append(f"the ledger has forgotten: {error}")
    found += invariants.nothing_left(direct, settings().key_prefix)
    found += [
        f"a process is left: {line}" for line in processes_with((ORPHAN_S, f"{journal.VARIABLE}={folder}/journal"))
    ]
    places = (folder / "cache" / "work", *(folder / "tmp").glob("tta-sandbox-*"))
    found += [f"a folder is left: {path}" for place in places if place.exists() for path in place.iterdir()]
    return found


def report(session: Session, folder: Path, producer: Producer, havoc: Havoc) -> dict[str, Any]:
    """What happened, in figures."""
    records = producer.client.ledger.tasks(producer.accepted)
    entries = journal.read(folder / "journal")
    return {
        "seed": session.seed,
        "accepted": len(producer.accepted),
        "runs": len(producer.runs),
        "refused and handed in again": producer.refusals,
        "ended": dict(Counter(record.status.value for record in records)),
        "faults": dict(havoc.done),
        "workers that fell by themselves": havoc.crew.fell,
        "executions": invariants.executions(entries, producer.accepted),
        "less urgent begun before a critical one": invariants.summary(
            invariants.overtaken(producer.client.ledger, producer.accepted)
        ),
    }
