# SPDX-License-Identifier: Apache-2.0
"""Why an offer is not part of a solution: who holds it back, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from copacetic.repository.rpm.clauses import Clauses
from copacetic.repository.rpm.solve import RpmSolution
from copacetic.repository.rpm.universe import RpmUniverse
from copacetic.rpm.dependency import RpmDependency

__all__ = ["RpmExplainer"]

_DEPTH = 3


class RpmExplainer:
    """Finds, for one solution, what speaks against other choices."""

    def __init__(self, universe: RpmUniverse, solution: RpmSolution, frozen: Callable[[int], str]) -> None:
        """`frozen` gives the reason why a package may not change or come in; empty if it may."""
        self._universe = universe
        self._chosen = sorted(solution.chosen)
        self._frozen = frozen
        self._clauses = Clauses(universe)

    def why_not(self, number: int, depth: int = _DEPTH) -> str:
        """Return the first reason, in words; "" when there is none that is this simple."""
        offer = self._universe.package(number)
        if reason := self._frozen(number):
            return f"{offer.name} {reason}"
        gone = self._replaced(number)
        rest = [other for other in self._chosen if other not in gone]
        return (
            next((self._stays(other) for other in gone if self._frozen(other)), "")
            or self._holder(number, rest)
            or self._rival(number, rest)
            or self._needs(number, [*rest, number], depth)
        )

    def _stays(self, number: int) -> str:
        return f"{self._universe.package(number).name} {self._frozen(number)}"

    def _replaced(self, number: int) -> set[int]:
        """What would have to go for it."""
        universe = self._universe
        name = universe.package(number).name
        same = {n for n in self._chosen if universe.package(n).name == name and universe.exclude_each_other(number, n)}
        return same | (set(universe.obsoleted(number)) & set(self._chosen))

    def _holder(self, number: int, rest: Sequence[int]) -> str:
        """A package of the solution that needs what would be gone."""
        universe = self._universe
        present = frozenset([*rest, number])
        for holder in rest:
            for need in self._clauses.needs(holder):
                if not need.is_met(present) and need.is_met(frozenset(self._chosen)):
                    return f"{universe.package(holder)} needs {need.requirement}{self._stuck(holder)}"
        return ""

    def _stuck(self, number: int) -> str:
        if not self._universe.is_installed(number) or self._universe.updates(number):
            return ""
        return f", and no newer {self._universe.package(number).name} is offered"

    def _rival(self, number: int, rest: Sequence[int]) -> str:
        """A package of the solution that can't be there together with it."""
        universe = self._universe
        offer = universe.package(number)
        for rival in rest:
            other = universe.package(rival)
            stuck = self._stuck(rival)
            for conflict in self._conflicts(number, rival):
                return f"{offer} conflicts with {conflict}, and {other} is installed{stuck}"
            for conflict in self._conflicts(rival, number):
                return f"{other} conflicts with {conflict}{stuck}"
            if number in universe.obsoleted(rival):
                return f"{other} obsoletes {offer.name}"
            if other.name == offer.name and universe.exclude_each_other(number, rival):
                return f"{other} would have to be {offer.evr} as well{stuck}"
        return ""

    def _conflicts(self, number: int, rival: int) -> list[RpmDependency]:
        conflicts = self._universe.package(number).conflicts
        return [one for one in conflicts if isinstance(one, RpmDependency) and self._universe.meets(rival, one)]

    def _needs(self, number: int, present: Sequence[int], depth: int) -> str:
        """What it asks for and the solution lacks."""
        universe = self._universe
        offer = universe.package(number)
        there = frozenset(present)
        for need in self._clauses.needs(number):
            if need.is_met(there):
                continue
            able = self._able(need.clause)
            if not able:
                return f"{offer} needs {need.requirement}, which no repository offers"
            reason = self.why_not(able[0], depth - 1) if depth else ""
            return f"{offer} needs {need.requirement}" + (f": {reason}" if reason else "")
        return ""

    def _able(self, clause: Iterable[int]) -> list[int]:
        """Who would do, those of names that are installed first, then the newest."""
        universe = self._universe
        able = universe.newest_first(number for number in clause if number > 0 and not universe.is_installed(number))
        return sorted(able, key=lambda number: not universe.present(universe.package(number).name))
