"""The search: run inputs, change those that found something, keep what adds something."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .case import Case
from .mutate import Mutator, likely
from .runner import Input, Run, Runner
from .shrink import shrink
from .source import snake
from .targets import CallableTarget, Vector
from .tracer import lines_of

#: Inputs without a find after which a target rests: with every line reached, and with some missing.
_PATIENCE_DONE = 120
_PATIENCE = 5000
#: Executions a target gets before the next one has its turn.
_SLICE = 25
#: Further examples a target may keep that only show another kind of outcome.
_EXTRAS = 6
#: Longest call worth showing.
_MAX_SOURCE = 140
#: What a call that ran into its time limit costs, in executions.
_SLOW_COST = 200
#: A target rests after so many calls that did not end in time, and one more for each so many that were tried.
_MAX_SLOW = 4
_SLOW_SHARE = 150
_RECEIVERS = 8


@dataclass
class Budget:
    """Bounds a search by executions, which makes it repeatable, and by time, whichever ends first."""

    executions: int
    deadline: float
    spent: int = 0

    def left(self) -> bool:
        """Whether there is some."""
        return self.spent < self.executions and time.monotonic() < self.deadline

    def part(self, share: float) -> Budget:
        """A share of what is left."""
        now = time.monotonic()
        return Budget(int((self.executions - self.spent) * share), now + (self.deadline - now) * share)


@dataclass
class Search:
    """The search on one target."""

    target: CallableTarget
    proposals: Iterator[tuple[str, Vector]]
    features: set[tuple[int, int]] = field(default_factory=set)
    outcomes: set[tuple[object, ...]] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    #: Arguments of calls that ended in time: name and source.
    harmless: set[tuple[str, str]] = field(default_factory=set)
    #: Calls that did not end in time.
    slow: int = 0
    extras: int = 0
    stale: int = 0

    def done(self) -> bool:
        """Whether more tries are not worth their time."""
        if self.slow > _MAX_SLOW + len(self.tried) // _SLOW_SHARE:
            return True
        reached = not (self.target.lines - lines_of(self.features))
        return self.stale > (_PATIENCE_DONE if reached else _PATIENCE)


class Explorer:
    """Searches targets in turn.

    Args:
        runner: Runs inputs.
        mutator: Changes arguments.
        rng: The only source of chance.
        keep: Called with each case worth keeping.
        skip: Inputs that must not be run: they ended the process before.
        about_to: Told of each input before it is run.
    """

    def __init__(
        self,
        runner: Runner,
        mutator: Mutator,
        rng: random.Random,
        *,
        keep: Callable[[Case], None],
        skip: frozenset[str],
        about_to: Callable[[str], None],
    ) -> None:
        self._runner, self._mutator, self._rng = runner, mutator, rng
        self._keep, self._skip, self._about_to = keep, skip, about_to
        self._receivers: dict[type, list[str]] = {}
        self.covered: set[int] = set()
        #: By label and template: a property and its setter share their label.
        self.searches: dict[str, Search] = {}

    def resume(self, cases: list[Case], targets: list[CallableTarget]) -> None:
        """Take up what an earlier process of the same job had kept."""
        by_label = {target.label + target.template: target for target in targets}
        for case in cases:
            target = by_label.get(case.target + case.call.template)
            if target is None:
                continue
            plan = Input(case.target, case.call, case.receiver, case.history)
            search = self._search_of(target)
            search.tried.add(plan.source())
            self._about_to(plan.journal_entry())
            self._learn(plan, self._runner.run(plan), search)

    def _search_of(self, target: CallableTarget) -> Search:
        return self.searches.setdefault(target.label + target.template, Search(target, self._propose(target)))

    def search(self, targets: list[CallableTarget], budget: Budget) -> None:
        """Search until each target rests or the budget ends; those with lines still missing get twice the time."""
        live = [self._search_of(target) for target in targets]
        while live and budget.left():
            for search in list(live):
                missing = search.target.lines - self.covered
                if not self._slice(search, _SLICE * 2 if missing else _SLICE, budget):
                    live.remove(search)

    def _slice(self, search: Search, steps: int, budget: Budget) -> bool:
        """Run some inputs of one target, fewer where they are slow; ``False`` when it should rest."""
        slow = search.slow
        for _ in range(steps):
            if not budget.left() or search.slow > slow:
                return True
            if not self._step(search, budget):
                return False
        return True

    def _step(self, search: Search, budget: Budget) -> bool:
        """Run the next input; ``False`` when the target should rest."""
        proposal = next(search.proposals, None)
        if proposal is None or search.done():
            return False
        receiver, vector = proposal
        self.attempt(Input(search.target.label, search.target.call(vector), receiver), search, budget)
        return True

    def attempt(self, plan: Input, search: Search, budget: Budget) -> bool:
        """Run an input and keep it where it adds something; whether it did."""
        source = plan.source()
        search.stale += 1
        if source in search.tried or source in self._skip or len(source) > _MAX_SOURCE + 60 * len(plan.history):
            return False
        search.tried.add(source)
        run = self._try(plan, budget)
        self._blame(plan, run, search)
        new = run.features - search.features
        extra = run.key is not None and run.key not in search.outcomes and search.extras < _EXTRAS
        if run.status == "dropped" or not (new or extra):
            return False
        plan = self._shrunk(plan, run, new, search.target, budget)
        search.stale = 0
        search.tried.add(plan.source())
        self._learn(plan, run, search)
        case = self._runner.record(plan)
        budget.spent += 2
        if case is not None:
            search.extras += not new
            self._keep(case)
        return True

    def _learn(self, plan: Input, run: Run, search: Search) -> None:
        search.features |= run.features
        self.covered |= lines_of(run.features)
        if run.key is not None:
            search.outcomes.add(run.key)
        if run.status == "value":
            self._remember(search.target, plan, run.value)
        if not plan.history:
            search.target.corpus.append((plan.receiver, search.target.vector(plan.call)))

    @staticmethod
    def _blame(plan: Input, run: Run, search: Search) -> None:
        """Where a call takes too long, forget the values that no fast call has had."""
        used = {(argument.name, argument.source) for argument in plan.call.arguments}
        if not run.slow:
            search.harmless |= used
            return
        search.slow += 1
        for parameter in search.target.parameters:
            fast = [source for source in parameter.pool if (parameter.name, source) not in used - search.harmless]
            parameter.pool = fast or parameter.pool

    def _try(self, plan: Input, budget: Budget) -> Run:
        self._about_to(plan.journal_entry())
        run = self._runner.run(plan)
        budget.spent += _SLOW_COST if run.slow else 1
        return run

    def _shrunk(
        self, plan: Input, run: Run, new: set[tuple[int, int]], target: CallableTarget, budget: Budget
    ) -> Input:
        """A plainer input that reaches the same new places, or ends the same way."""

        def still(plainer: Input) -> bool:
            if plainer.source() in self._skip:
                return False
            other = self._try(plainer, budget)
            return other.status == run.status and other.key == run.key and new <= other.features

        plain = frozenset(source for parameter in target.parameters for source in parameter.pool)
        return plan if self._from_seed(plan, target) else shrink(plan, still, plain)

    @staticmethod
    def _from_seed(plan: Input, target: CallableTarget) -> bool:
        return not plan.history and target.vector(plan.call) in target.seeds

    def _remember(self, target: CallableTarget, plan: Input, value: object) -> None:
        """Calls that make instances of the module's classes are receivers for their methods."""
        if plan.history or plan.receiver or target.role == "method" or target.owner is None:
            return
        known = self._receivers.setdefault(type(value), [])
        if len(known) < _RECEIVERS:
            known.append(plan.call.source())

    def changes(self, target: CallableTarget) -> bool:
        """Whether a call of ``target`` was seen to change its receiver."""
        return target.label in self._runner.changing

    def receivers(self, cls: type) -> list[str]:
        """Expressions for instances of ``cls``, or of a subclass."""
        if issubclass(cls, enum.Enum):
            return [f"{cls.__qualname__}.{member}" for member in cls.__members__][:_RECEIVERS]
        exact = self._receivers.get(cls, [])
        return exact or [item for kind, items in self._receivers.items() if issubclass(kind, cls) for item in items[:4]]

    def classes(self) -> list[type]:
        """Classes that have instances."""
        return [cls for cls, made in self._receivers.items() if made]

    def lend(self, target: CallableTarget) -> None:
        """Add instances of the module's classes to the pools of parameters that seem to want one."""
        for parameter in target.parameters:
            for cls in self.classes():
                named = snake(cls.__name__) == parameter.name or f"instance:{cls.__name__}" in parameter.kinds
                bases = any(f"instance:{base.__name__}" in parameter.kinds for base in cls.__mro__[:-1])
                operand = (
                    target.owner is not None
                    and issubclass(cls, target.owner)
                    and self._takes_peer(target, parameter.name)
                )
                if named or bases or operand:
                    lent = [item for item in self._receivers[cls] if item not in parameter.pool]
                    parameter.pool[:0] = lent

    @staticmethod
    def _takes_peer(target: CallableTarget, name: str) -> bool:
        return name in {"other", "others", "operand0"} or target.template.startswith("{self} ")

    def _propose(self, target: CallableTarget) -> Iterator[tuple[str, Vector]]:
        receivers = self.receivers(target.owner) if target.role == "method" and target.owner else [""]
        if not receivers:
            return
        first = receivers[0]
        for vector in target.seeds:
            yield first, vector
        base: Vector = tuple(p.pool[0] if p.required else None for p in target.parameters)
        for receiver in receivers:
            yield receiver, base
        for index, parameter in enumerate(target.parameters):
            for source in parameter.pool:
                yield self._rng.choice(receivers), (*base[:index], source, *base[index + 1 :])
        while target.parameters or len(receivers) > 1:
            yield self._vary(target, receivers, base)

    def _vary(self, target: CallableTarget, receivers: list[str], base: Vector) -> tuple[str, Vector]:
        rng = self._rng
        if target.corpus and likely(rng, 0.7):
            # The latest finds are the ones nobody has tried to go on from.
            receiver, vector = rng.choice(target.corpus[-12:] if likely(rng, 0.5) else target.corpus)
            changed = [self._vary_one(target, index, source) for index, source in enumerate(vector)]
            return (rng.choice(receivers) if likely(rng, 0.3) else receiver), tuple(changed)
        fresh = [
            rng.choice(p.pool) if needed is not None or likely(rng, 0.35) else None
            for p, needed in zip(target.parameters, base, strict=True)
        ]
        return rng.choice(receivers), tuple(fresh)

    def _vary_one(self, target: CallableTarget, index: int, source: str | None) -> str | None:
        rng, parameter = self._rng, target.parameters[index]
        chance = 0.75 if len(target.parameters) == 1 else 0.45
        if source is None:
            return rng.choice(parameter.pool) if likely(rng, 0.25) else None
        if not likely(rng, chance):
            return source
        if likely(rng, 0.6):
            return self._mutator.mutate(source)
        return rng.choice(parameter.pool) if parameter.required or likely(rng, 0.7) else None
