# SPDX-License-Identifier: Apache-2.0
"""
The resulting set, by dnf's preferences.

What is wanted is decided first and in its order, then what that needs, and only then what else is installed is kept:
so an update of an installed package is preferred to another package that would do. Nothing installed goes unless
something takes its place, and what can't be had is left out without holding up the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cmp_to_key, partial

from msgspec import Struct

from copacetic.repository.rpm.architecture import NOARCH
from copacetic.repository.rpm.clauses import Clauses, Need
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.satisfy import MAX_CONFLICTS, Satisfier
from copacetic.repository.rpm.universe import RpmUniverse
from copacetic.rpm.dependency import Requirement, simple_parts

__all__ = ["RpmGoals", "RpmSolution", "solve_goals"]


MAX_DOUBTFUL = 300
"""Packages of which each is looked at again in the end."""


class RpmGoals(Struct, frozen=True, kw_only=True):
    """What is to be reached as far as possible, by the numbers of packages."""

    kept: Collection[int] = ()
    """Installed packages that stay as they are."""
    wanted: Sequence[Sequence[int]] = ()
    """Of each one is to be in the set, the earlier the rather."""
    lifted: Sequence[int] = ()
    """Installed packages that are to be as new as possible."""
    lowest: bool = False
    """Whether of an installed package's updates the oldest is taken that will do, and not the newest."""
    excluded: Callable[[int], bool] = lambda _number: False
    """Packages that can't come in."""
    effort: int = MAX_CONFLICTS
    """How often something may have to be taken back."""


class RpmSolution(Struct, frozen=True):
    """A consistent set."""

    chosen: frozenset[int]
    ordered: tuple[int, ...]
    """What comes in, in the order in which it was decided."""
    reached: tuple[bool, ...]
    """Of what is wanted."""


def solve_goals(universe: RpmUniverse, goals: RpmGoals) -> RpmSolution:
    """Raises `GivenUpError`."""
    return _Search(universe, goals).run()


class _Search:
    def __init__(self, universe: RpmUniverse, goals: RpmGoals) -> None:
        self._universe = universe
        self._goals = goals
        self._clauses = Clauses(universe)
        self._state = Satisfier(self._about, goals.effort)
        # Statements beyond all packages say that a goal is reached.
        self._first_goal = 1 << 40
        places = range(len(goals.wanted))
        self._questions: list[Callable[[], Iterator[int]]] = [
            *(partial(self._reach, place) for place in places),
            *(partial(self._first, place) for place in places),
            *(partial(self._lift, number) for number in goals.lifted),
        ]
        # How many of each have been dealt with, as long as nothing is taken back.
        self._asked = 0
        self._settled = 0
        self._kept = 0
        self._conflicts = 0

    def _about(self, number: int) -> Sequence[Sequence[int]]:
        if number >= self._first_goal:
            return [(-number, *self._goals.wanted[number - self._first_goal])]
        if not self._universe.is_installed(number) and self._goals.excluded(number):
            return [(-number,)]
        return self._clauses.about(number)

    def run(self) -> RpmSolution:
        state, universe, goals = self._state, self._universe, self._goals
        for number in universe.installed:
            state.add([number] if number in goals.kept else [number, *universe.updates(number)])
        state.settle()
        while (literal := next(self._open(), None)) is not None:
            state.decide(literal)
        chosen = self._needed([number for number in state.trail if 0 < number < self._first_goal])
        return RpmSolution(
            chosen=frozenset(chosen),
            ordered=tuple(number for number in chosen if not universe.is_installed(number)),
            reached=tuple(self._first_goal + place in state.true for place in range(len(goals.wanted))),
        )

    def _needed(self, chosen: Sequence[int]) -> list[int]:
        """Leave out what came in for something that is met otherwise in the end, and updates that aren't needed."""
        universe = self._universe
        wanted = {number for options in self._goals.wanted for number in options}
        wanted.update(n for old in self._goals.lifted for n in (*universe.updates(old), *universe.beside(old)))
        left, doubtful = list(chosen), [n for n in reversed(chosen) if not universe.is_installed(n) and n not in wanted]
        while 0 < len(doubtful) <= MAX_DOUBTFUL:
            needed = []
            for number in doubtful:
                old = [n for n in universe.present(universe.package(number).name) if n not in left]
                rest = [*(n for n in left if n != number), *old]
                if (not old or self._goals.lowest) and self._is_consistent(rest):
                    left = rest
                else:
                    needed.append(number)
            if len(needed) == len(doubtful):
                break
            doubtful = needed
        return left

    def _is_consistent(self, chosen: Sequence[int]) -> bool:
        there = frozenset(chosen)
        everything = all(
            any(n in there if n > 0 else -n not in there for n in clause)
            for number in chosen
            for clause in self._clauses.about(number)
        )
        universe = self._universe
        return everything and all(n in there or not there.isdisjoint(universe.updates(n)) for n in universe.installed)

    def _open(self) -> Iterator[int]:
        """Yield what to try next; only the first is ever used."""
        if self._conflicts != self._state.conflicts:
            self._conflicts = self._state.conflicts
            self._settled = self._asked = self._kept = 0
        while self._asked < len(self._questions):
            yield from self._questions[self._asked]()
            self._asked += 1
        yield from self._missing()
        while self._kept < len(self._universe.installed):
            yield from self._keep(self._universe.installed[self._kept])
            self._kept += 1
        yield from self._left()

    def _reach(self, place: int) -> Iterator[int]:
        if self._state.is_open(self._first_goal + place):
            yield self._first_goal + place

    def _first(self, place: int) -> Iterator[int]:
        options = self._goals.wanted[place]
        if self._first_goal + place in self._state.true and not any(n in self._state.true for n in options):
            available = [number for number in options if self._state.is_open(number)]
            yield from (number for number in available if not self._clauses.is_hopeless(number))
            yield from available

    def _lift(self, number: int) -> Iterator[int]:
        """The best of what may take a package's place, itself included; what is installed beside it isn't needed."""
        universe = self._universe
        if not universe.is_install_only(number):
            yield from self._choice([number, *universe.updates(number)])
            if self._state.is_false(number):
                yield from self._heirs(number)
            return
        yield from self._choice(universe.beside(number))

    def _heirs(self, number: int) -> Iterator[int]:
        """All among which a package was split up, if one of them has taken its place."""
        universe = self._universe
        heirs: dict[str, list[int]] = {}
        for other in universe.updates(number):
            heirs.setdefault(universe.package(other).name, []).append(other)
        if not any(other in self._state.true for other in heirs.pop(universe.package(number).name, ())):
            for options in heirs.values():
                yield from self._choice(options)

    def _keep(self, number: int) -> Iterator[int]:
        """
        An installed package as it is; but rather an update of it than a package of another name, for something that
        was provided by an installed one so far.
        """
        if self._state.is_open(number):
            for need in self._clauses.needs(number):
                if self._is_lacking(need.clause) and self._has_moved_on(need):
                    yield from self._update(number)
            yield number
        elif self._state.is_false(number):
            yield from self._update(number)

    def _update(self, number: int) -> Iterator[int]:
        """Something in place of an installed package; where little is to change, rather a newer one of its name."""
        universe = self._universe
        updates = universe.updates(number)
        if self._goals.lowest and not any(other in self._state.true for other in updates):
            name = universe.package(number).name
            yield from self._choice([other for other in updates if universe.package(other).name == name])
        yield from self._choice(updates)

    def _has_moved_on(self, need: Need) -> bool:
        """Whether what met it was updated, and still has what it asks for by name: it isn't what was split off."""
        akin = self._akin(need.clause)
        if not akin or any(self._state.is_open(number) for number in akin):
            return False
        names = {part.name for part in simple_parts(need.requirement)}
        heirs = (other for number in akin if self._universe.is_installed(number) for other in self._successors(number))
        return any(part.name in names for heir in heirs for part in heir.provides) or any(
            self._universe.package(number).name in names for number in akin
        )

    def _successors(self, number: int) -> Iterator[RpmOffer]:
        updates = self._universe.updates(number)
        return (self._universe.package(other) for other in updates if other in self._state.true)

    def _missing(self) -> Iterator[int]:
        """
        Updates of installed packages, for what the set so far needs and can't have from what is there already.

        What has all that it needs isn't looked at twice.
        """
        state = self._state
        while self._settled < len(state.trail):
            for need in self._open_needs(state.trail[self._settled]):
                options = self._akin(need.clause)
                if not any(self._universe.is_installed(number) and state.is_open(number) for number in options):
                    yield from self._choice(options, need.requirement)
            self._settled += 1

    def _left(self) -> Iterator[int]:
        """Whatever does, for all that is still needed, by what comes in first."""
        trail = self._state.trail
        for number in sorted(trail, key=lambda number: number > 0 and self._universe.is_installed(number)):
            for need in self._open_needs(number):
                yield from self._choice([n for n in need.clause if n > 0], need.requirement)

    def _open_needs(self, number: int) -> Iterator[Need]:
        if 0 < number < self._first_goal:
            yield from (need for need in self._clauses.needs(number) if self._is_lacking(need.clause))

    def _is_lacking(self, clause: Sequence[int]) -> bool:
        """Whether something has to come in for a clause to hold."""
        state = self._state
        return not any(n in state.true or (n < 0 and not state.is_false(n)) for n in clause)

    def _akin(self, clause: Sequence[int]) -> list[int]:
        """Of what will do, the packages that are installed in some version."""
        universe = self._universe
        return [number for number in clause if number > 0 and universe.present(universe.package(number).name)]

    def _choice(self, options: Sequence[int], asked: Requirement | None = None) -> Iterator[int]:
        """The best of several that are open; nothing, when one of them is taken already."""
        state = self._state
        if any(number in state.true for number in options):
            return
        available = [number for number in options if state.is_open(number)]
        if available:
            best = self._best(available, asked)
            if self._clauses.is_hopeless(best):
                possible = [number for number in available if not self._clauses.is_hopeless(number)]
                best = self._best(possible, asked) if possible else best
            yield best

    def _best(self, options: Sequence[int], asked: Requirement | None) -> int:
        """
        As dnf has it: an installed one or one of the best repository, of the best architecture, the best version of
        each name, none that another one obsoletes; of these one whose name is installed, that has the newest of what
        is asked for, and is no leftover of an older version.
        """
        if len(options) == 1:
            return options[0]
        universe = self._universe
        priority = min((universe.package(n).priority for n in options if not universe.is_installed(n)), default=0)
        left = [n for n in options if universe.is_installed(n) or universe.package(n).priority == priority]
        rank = min((universe.rank(n) for n in left if universe.package(n).architecture != NOARCH), default=None)
        if rank is not None:
            left = [n for n in left if universe.rank(n) == rank or universe.package(n).architecture == NOARCH]
        best: dict[str, int] = {}
        for number in sorted(left, key=cmp_to_key(self._order)):
            best.setdefault(universe.package(number).name, number)
        outdated = {other for number in best.values() for other in universe.obsoleted(number)}
        numbers = [number for number in best.values() if number not in outdated] or list(best.values())
        akin = [number for number in numbers if universe.present(universe.package(number).name)]
        most = universe.most_of(asked, akin or numbers)
        return min(most, key=lambda number: (universe.is_outdated(number), universe.package(number).name))

    def _order(self, one: int, other: int) -> int:
        """Compare two of one name; the lesser is the better."""
        universe = self._universe
        a, b = universe.package(one), universe.package(other)
        order = universe.compare(other, one)
        if self._goals.lowest and universe.present(a.name) and not (a.installed or b.installed):
            order = -order
        ranks = universe.rank(one) - universe.rank(other)
        return order or ranks or b.installed - a.installed or a.cost - b.cost or one - other
