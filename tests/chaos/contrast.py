"""The same load and the same faults against plain Celery: what is lost, and what is done twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import redis
from celery import chord
from celery.result import GroupResult
from kombu.exceptions import KombuError

from tests.chaos import invariants, journal, plain
from tests.chaos.arena import SLOTS, Session, arena, environment
from tests.chaos.driver import go_wrong
from tests.chaos.load import RUN_MODULES, Item, load
from tta_tasks.queues import transport_priority

CELERY = (
    *("--app", "tests.chaos.plain", "worker", "--hostname", "plain-{number}@%h"),
    *("--concurrency", str(SLOTS), "--without-gossip", "--without-mingle"),
)
#: How long after the last fault a task may end, in seconds, before it is called lost.
PATIENCE_S = 90.0


def run(session: Session, folder: Path, visibility_s: float) -> dict[str, Any]:
    """Hold a session below ``folder`` with this visibility timeout; answer what became of it."""
    accepted: dict[str, str] = {}
    with arena(
        session,
        folder,
        CELERY,
        lambda folder, url, _: environment(folder, url, url) | {plain.BROKER: url, plain.VISIBILITY: str(visibility_s)},
    ) as held:
        began = time.monotonic()
        items = load(session.seed, session.tasks, session.seconds)
        hands = threading.Thread(target=produce, args=(items, began, accepted))
        hands.start()
        go_wrong(session, held.havoc, began)
        hands.join()
        with redis.Redis.from_url(held.havoc.server.url) as direct:
            states = settled(direct, list(accepted))
    entries = journal.read(folder / "journal")
    made = Counter(digest for digests in held.switches.seen.values() for digest in digests)
    return {
        "seed": session.seed,
        "visibility timeout": visibility_s,
        "accepted": len(accepted),
        "never ended": Counter(deed for task_id, deed in accepted.items() if task_id not in states),
        "ended": Counter(states.values()),
        "faults": held.havoc.done,
        "workers that fell by themselves": held.havoc.crew.fell,
        "releases": {
            "asked for": sum(deed == "release" for deed in accepted.values()),
            "made current": sum(made.values()),
            "made current again": sum(count - 1 for count in made.values()),
        },
        "executions": invariants.executions(entries, accepted),
    }


def produce(items: Sequence[Item], began: float, accepted: dict[str, str]) -> None:
    """Hand everything in at its time, and insist."""
    for item in items:
        time.sleep(max(0.0, began + item.at - time.monotonic()))
        while True:
            try:
                accepted |= hand_in(item)
            except (KombuError, redis.RedisError, OSError):
                time.sleep(0.2)
            else:
                break


def hand_in(item: Item) -> dict[str, str]:
    """Hand one item in; answer the ids of its tasks."""
    priority = transport_priority(item.priority, "redis")
    if item.deed not in RUN_MODULES:
        return {plain.deed.apply_async((item.deed,), priority=priority).id: item.deed}
    deeds = (*(module.partition("-")[0] for module in RUN_MODULES[item.deed]), "short")
    header = [plain.deed.s(deed).set(priority=priority) for deed in deeds]
    body = chord(header)(plain.gather.s().set(priority=priority))
    parts = cast("GroupResult", body.parent).results or []
    return {part.id: deed for part, deed in zip(parts, deeds, strict=True)} | {body.id: "callback"}


def settled(client: redis.Redis, ids: Sequence[str]) -> dict[str, str]:
    """The states of those that have ended, after waiting for all of them."""
    until = time.monotonic() + PATIENCE_S
    while True:
        stored = cast("list[bytes | None]", client.mget([f"celery-task-meta-{task_id}" for task_id in ids]))
        states = {
            task_id: state
            for task_id, meta in zip(ids, stored, strict=True)
            if meta and (state := _state(meta)) in {"SUCCESS", "FAILURE"}
        }
        if len(states) == len(ids) or time.monotonic() > until:
            return states
        time.sleep(1)


def _state(meta: bytes) -> str:
    return next((state for state in ("SUCCESS", "FAILURE") if f'"status": "{state}"'.encode() in meta), "")
