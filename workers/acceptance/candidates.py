"""The candidates that are still in, and why the others are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tta_tasks.models import RejectedTest
from workers.acceptance.reading import Draft
from workers.acceptance.source import TestFunction
from workers.component.probing import CollectedTest


@dataclass
class Candidates:
    """Files and their tests while they are judged.

    A test that is turned down stays in its file until the end, and is only no longer run: so node ids stay what they
    are, and tests are what they were when they were judged.
    """

    drafts: dict[str, Draft]
    #: Tells the file of a test, relative to the project.
    path_of: Callable[[CollectedTest], str]
    rejected: list[RejectedTest]
    cases: dict[str, CollectedTest] = field(default_factory=dict)
    #: Node ids that were turned down.
    rejected_ids: set[str] = field(default_factory=set)

    @property
    def files(self) -> dict[str, str]:
        """Path -> source, with all tests in it."""
        return {path: draft.file.source for path, draft in self.drafts.items()}

    def remaining(self) -> list[CollectedTest]:
        """The tests that are still in."""
        return [case for case in self.cases.values() if case.id not in self.rejected_ids]

    def in_order(self, cases: Iterable[CollectedTest]) -> list[CollectedTest]:
        """``cases`` as they are written, file by file."""
        return sorted(cases, key=lambda case: (self.path_of(case), case.position))

    def function(self, case: CollectedTest) -> TestFunction:
        """The function of a test, as it is written."""
        return self.drafts[self.path_of(case)].file.functions[case.key]

    def register(self, cases: Mapping[str, CollectedTest]) -> None:
        """Take in what was collected of the files; what cannot be found in the text is turned down."""
        self.cases = {name: case for name, case in cases.items() if self.path_of(case) in self.drafts}
        for draft in list(self.drafts.values()):
            found = {case.key for case in self.cases.values() if self.path_of(case) == draft.path}
            for key in set(draft.file.functions) - found:
                self.rejected.append(RejectedTest(name=key, reason="not_collected", detail="pytest does not find it"))
            if found - set(draft.file.functions):
                self.reject_file(draft, "unreadable", "its tests are made in a way that cannot be taken apart")

    # -- turning down -----------------------------------------------------------------------------------------------

    def reject(self, case: CollectedTest, reason: str, detail: str) -> None:
        """Turn one test down."""
        self.rejected_ids.add(case.id)
        self.rejected.append(RejectedTest(name=case.name, reason=reason, detail=detail))

    def reject_file(self, draft: Draft, reason: str, detail: str) -> None:
        """Turn a whole file down."""
        self.rejected.append(RejectedTest(name=draft.path, reason=reason, detail=detail))
        self.cases = {name: case for name, case in self.cases.items() if self.path_of(case) != draft.path}
        del self.drafts[draft.path]

    def reject_all(self, reason: str, detail: str) -> None:
        """Turn all files down."""
        for draft in list(self.drafts.values()):
            self.reject_file(draft, reason, detail)

    def reject_inseparable(self) -> None:
        """Where a row is out and rows cannot be taken out of the source one by one, the whole function goes."""
        bad = [case for case in self.cases.values() if case.id in self.rejected_ids]
        whole = [self.function(case) for case in bad if case.rows and not self.function(case).rows(case.rows)]
        for case in self.remaining():
            if self.function(case) in whole:
                self.reject(case, "fails", "another row does not hold, and single rows cannot be taken out")

    # -- what remains -----------------------------------------------------------------------------------------------

    def pruned(self) -> dict[str, str]:
        """Path -> source without what was turned down; files without a test left are not among them."""
        sources = {path: draft.file.without(*self._to_remove(draft)) for path, draft in self.drafts.items()}
        return {path: source for path, source in sources.items() if source}

    def _to_remove(self, draft: Draft) -> tuple[set[str], dict[str, set[int]]]:
        """Functions, and rows of others."""
        by_function: defaultdict[str, list[CollectedTest]] = defaultdict(list)
        for case in self._of(draft):
            by_function[case.key].append(case)
        functions = {
            key for key in draft.file.functions if all(case.id in self.rejected_ids for case in by_function[key])
        }
        rows = {
            key: {index for case in cases if case.id in self.rejected_ids for index in case.rows.values()}
            for key, cases in by_function.items()
            if key not in functions
        }
        return functions, {key: indices for key, indices in rows.items() if indices}

    def _of(self, draft: Draft) -> Iterator[CollectedTest]:
        return (case for case in self.cases.values() if self.path_of(case) == draft.path)
