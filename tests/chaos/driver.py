"""One session of chaos: a load, faults, a quiet end, and a look at what is left."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.chaos import brokers, invariants, journal, once, order
from tests.chaos.arena import CELERY, Arena, Session, arena, environment
from tests.chaos.deeds import ORPHAN_S
from tests.chaos.faults import Havoc, schedule
from tests.chaos.load import load
from tests.chaos.producer import Producer
from tests.chaos.server import processes_with
from tta_tasks.client import TaskClient
from tta_tasks.errors import RecordMissing, TransientError
from tta_tasks.models import Status, TaskRecord
from tta_tasks.settings import settings
from tta_tasks.stores import open_store

#: How long everything may take to end once nothing goes wrong any more, in seconds.
SETTLE_S = 120.0


def run(session: Session, folder: Path) -> dict[str, Any]:
    """Hold a session below ``folder``; answer its report, with the list of ``violations``."""
    with arena(session, folder, CELERY, environment) as held:
        settings.cache_clear()
        if session.broker:
            brokers.emptied()
        with TaskClient.connect() as client:
            producer = Producer(client, session.seed)
            began = time.monotonic()
            items = load(session.seed, session.tasks, session.seconds)
            hands = threading.Thread(target=producer.produce, args=(items, began), name="producer")
            hands.start()
            go_wrong(session, held.havoc, began)
            hands.join()
            return aftermath(session, producer, held)


def go_wrong(session: Session, havoc: Havoc, began: float) -> None:
    """Let the faults of the session happen, at their times."""
    for fault in schedule(session.seed, session.seconds, session.every_s, session.workers):
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        havoc.wreak(fault)


def aftermath(session: Session, producer: Producer, held: Arena) -> dict[str, Any]:
    """Wait until all is quiet, send the workers home, and look at what is left."""
    quiet = time.monotonic()
    seen, waiting = settled(producer.client, list(producer.accepted))
    settle_s = round(time.monotonic() - quiet, 1)
    with redis.Redis.from_url(held.havoc.server.url) as direct:
        drain_s = round(brokers.drained(direct), 1)
        stubborn = held.havoc.crew.stop()
        problems = list(violations(session, direct, producer, seen, held))
    problems += [f"{len(waiting)} accepted tasks were never told as ended"] if waiting else []
    problems += [f"worker {number} did not end when asked to" for number in stubborn]
    rest = {"settled within": settle_s, "broker empty within": drain_s, "violations": problems}
    return report(session, producer, held) | rest


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


def violations(
    session: Session, direct: redis.Redis, producer: Producer, seen: dict[str, Status], held: Arena
) -> Iterator[str]:
    """Everything that does not hold at the end."""
    folder, entries = held.folder, journal.read(held.folder / "journal")
    try:
        tasks = producer.client.ledger.tasks(producer.accepted)
        yield from invariants.ended_as_they_must(producer.client.ledger, producer.accepted, seen, entries)
        yield from once.released_once(_deployments(tasks, producer), held.switches.seen)
        yield from once.patched_once(tasks, open_store(settings()))
    except RecordMissing as error:
        yield f"the ledger has forgotten: {error}"
    if passed := order.passed_over(folder, settings().key_prefix).passed:
        yield f"{passed} messages were handed out while a more urgent one waited"
    yield from invariants.nothing_left(direct, settings().key_prefix)
    if session.broker and (count := brokers.waiting()):
        yield f"{count} messages wait at the broker"
    for line in processes_with((ORPHAN_S, f"{journal.VARIABLE}={folder}/journal")):
        yield f"a process is left: {line}"
    places = (folder / "cache" / "work", *(folder / "tmp").glob("tta-sandbox-*"))
    yield from (f"a folder is left: {path}" for place in places if place.exists() for path in place.iterdir())


def report(session: Session, producer: Producer, held: Arena) -> dict[str, Any]:
    """What happened, in figures."""
    tasks = producer.client.ledger.tasks(producer.accepted)
    known = {task.id: task for task in tasks}
    entries = journal.read(held.folder / "journal")
    handed = None if session.broker else order.passed_over(held.folder, settings().key_prefix)
    return {
        "seed": session.seed,
        "accepted": len(producer.accepted),
        "runs": len(producer.runs),
        "refused and handed in again": producer.refusals,
        "ended": dict(Counter(task.status.value for task in tasks)),
        "releases": {
            "asked for": len(_deployments(tasks, producer)),
            "made current": sum(map(len, held.switches.seen.values())),
            "superseded": sum(once.superseded(task, known) for task in tasks),
        },
        "faults": dict(held.havoc.done),
        "workers that fell by themselves": held.havoc.crew.fell,
        "executions": invariants.executions(entries, producer.accepted),
        "begun on another's message": sum(
            task.attempts == 1 and task.published_at == task.started_at for task in tasks
        ),
        "messages handed out by Redis": handed and handed.popped,
        "of these while a more urgent one waited": handed and handed.passed,
    }


def _deployments(tasks: tuple[TaskRecord, ...], producer: Producer) -> list[TaskRecord]:
    return [task for task in tasks if producer.accepted[task.id] == "release"]
