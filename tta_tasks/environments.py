"""What environments have seen, as their deployment workers tell it to everybody.

The truth is where a deployer keeps it; this is the latest copy. Keys, each expiring ``releases_keep_s`` after the last
deployment:

    <prefix>environment:<environment>/<component>    string  an EnvironmentRecord
    <prefix>environments    zset    "<environment>/<component>" by the time of its last deployment, bounded
"""

from __future__ import annotations

import logging
from typing import Final, Protocol, cast

from tta_tasks.clock import Clock
from tta_tasks.connection import connect, translated
from tta_tasks.errors import RecordUnreadable
from tta_tasks.ledger.records import readable
from tta_tasks.models import EnvironmentRecord, ReleaseEntry
from tta_tasks.settings import Settings

log = logging.getLogger(__name__)

#: Most pairs of environment and component remembered.
MAX_ENVIRONMENTS: Final = 1000


class Environments:
    """The environments of one installation.

    Every method raises :class:`~tta_tasks.errors.StoreUnavailable` when Redis does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings)
        self._settings = settings
        self._clock = Clock(self._redis, settings.redis)
        self._index = f"{settings.key_prefix}environments"

    def tell(self, record: EnvironmentRecord) -> None:
        """Replace what is known of an environment of a component."""
        name, keep = f"{record.environment}/{record.component.name}", self._settings.releases_keep_s
        with translated(self._settings.redis), self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._key(name), record.model_dump_json(), ex=keep)
            pipe.zadd(self._index, {name: self._clock.now()})
            pipe.zremrangebyrank(self._index, 0, -MAX_ENVIRONMENTS - 1)
            pipe.expire(self._index, keep)
            pipe.execute()

    def known(self) -> tuple[EnvironmentRecord, ...]:
        """All environments, the one that was deployed to last first.

        One that another version wrote, and that cannot be read here, is logged and left out.
        """
        with translated(self._settings.redis):
            names = cast("list[bytes]", self._redis.zrevrange(self._index, 0, -1))
            found = [self._redis.get(self._key(name.decode())) for name in names]
        stored = ((name.decode(), cast("bytes", each)) for name, each in zip(names, found, strict=True) if each)
        return tuple(record for name, each in stored if (record := _read(name, each)) is not None)

    def _key(self, name: str) -> str:
        return f"{self._settings.key_prefix}environment:{name}"


def _read(name: str, stored: bytes) -> EnvironmentRecord | None:
    try:
        with readable(f"environment {name}"):
            return EnvironmentRecord.from_stored(stored)
    except RecordUnreadable as error:
        log.warning("%s", error)
        return None


class EnvironmentHistory(Protocol):
    """What an environment has seen."""

    @property
    def current(self) -> str | None:
        """The release in use."""

    @property
    def entries(self) -> tuple[ReleaseEntry, ...]:
        """What happened, oldest first."""


def rollback_candidates(seen: EnvironmentHistory) -> list[str]:
    """The releases that were in use and good, as a person would go back through them: the latest first.

    Who has gone back from B to A, and goes back once more, wants what was before A, and not B again.
    """
    good: list[str] = []
    for entry in seen.entries:
        if entry.what == "returned" and entry.release in good:
            del good[good.index(entry.release) + 1 :]
        elif entry.what in {"released", "returned"}:
            good = [*(release for release in good if release != entry.release), entry.release]
    return [release for release in reversed(good) if release != seen.current]
