"""What a component's own tests covered, module by module: who works on one module need not read of all the others.

<prefix>baseline:<task id>   hash   suite without its coverage, and one field a module; expires with the task
"""

from __future__ import annotations

from typing import Any, cast

from tta_tasks.connection import translated
from tta_tasks.ledger.base import LedgerBase
from tta_tasks.ledger.records import readable
from tta_tasks.models import ModuleCoverage, SuiteReport

#: The field of the suite; no module's path is like it.
SUITE = "."


class Baselines(LedgerBase):
    """The baselines of one installation's runs."""

    def put(self, task_id: str, suite: SuiteReport) -> None:
        """Keep what the testing task ``task_id`` has measured."""
        fields: dict[Any, Any] = {module.path: module.model_dump_json() for module in suite.coverage}
        fields[SUITE] = suite.model_copy(update={"coverage": ()}).model_dump_json()
        with translated(self._url), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self.key(task_id), mapping=fields)
            pipe.expire(self.key(task_id), self._settings.retention_s)
            pipe.execute()

    def get(self, task_id: str, path: str) -> SuiteReport | None:
        """The suite with the coverage of the module at ``path`` alone; ``None`` where ``task_id`` measured nothing.

        Raises:
            RecordUnreadable: Another version wrote it.
        """
        with translated(self._url):
            found = cast("list[bytes | None]", self._redis.hmget(self.key(task_id), [SUITE, path]))
        if found[0] is None:
            return None
        with readable(f"task {task_id}"):
            coverage = () if found[1] is None else (ModuleCoverage.from_stored(found[1]),)
            return SuiteReport.from_stored(found[0]).model_copy(update={"coverage": coverage})

    def key(self, task_id: str) -> str:
        """Where it is kept."""
        return f"{self._prefix}baseline:{task_id}"
