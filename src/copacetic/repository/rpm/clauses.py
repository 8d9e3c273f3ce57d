# SPDX-License-Identifier: Apache-2.0
"""
What packages say about each other, as clauses over their numbers (see `satisfy`).

What is wrong with the installed set as it is, isn't held against it, nor against what takes the place of a package
that asked for the same in vain: a requirement that was broken before may stay so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from msgspec import Struct

from copacetic.repository.rpm.universe import RpmUniverse
from copacetic.rpm.dependency import Requirement, RpmDependency, meeting

__all__ = ["Clauses", "Need", "TooComplexError", "normal_form"]

MAX_CLAUSES = 5_000
MAX_LITERALS = 100_000
"""Of one rich dependency."""

Normal = list[tuple[int, ...]]
_Clause = tuple[int, ...]


class Need(Struct, frozen=True):
    """One clause of what a package requires."""

    clause: _Clause
    """Without the package itself."""
    requirement: Requirement

    def is_met(self, present: AbstractSet[int]) -> bool:
        return any(number in present if number > 0 else -number not in present for number in self.clause)


class TooComplexError(Exception):
    """A rich dependency that can't be taken apart within reason."""


def normal_form(universe: RpmUniverse, requirement: Requirement, *, negated: bool = False) -> Normal:
    """Return the clauses that together say that a requirement is met, or isn't. Raises `TooComplexError`."""
    if isinstance(requirement, RpmDependency) or requirement.operator in {"with", "without"}:
        found = sorted(meeting(requirement, lambda asked: frozenset(universe.providers(asked))))
        return [(-number,) for number in found] if negated else [tuple(found)]
    parts = requirement.parts
    if requirement.operator in {"and", "or"}:
        forms = [normal_form(universe, part, negated=negated) for part in parts]
        return _both(forms) if (requirement.operator == "and") != negated else _either(forms)
    missing: Normal = [] if (requirement.operator == "if") != negated else [()]
    forms = [*(normal_form(universe, part, negated=negated) for part in (parts[0], *parts[2:])), missing]
    when, otherwise = forms[:2] if requirement.operator == "if" else forms[1::-1]
    return _both(
        [
            _either([normal_form(universe, parts[1], negated=True), when]),
            _either([normal_form(universe, parts[1]), otherwise]),
        ]
    )


def _both(forms: Iterable[Normal]) -> Normal:
    return [clause for form in forms for clause in form]


def _either(forms: Iterable[Normal]) -> Normal:
    result: Normal = [()]
    for form in forms:
        literals = len(form) * sum(map(len, result)) + len(result) * sum(map(len, form))
        if len(result) * len(form) > MAX_CLAUSES or literals > MAX_LITERALS:
            raise TooComplexError
        result = [(*one, *other) for one in result for other in form]
    return result


class Clauses:
    """Gives the clauses about one package at a time."""

    def __init__(self, universe: RpmUniverse) -> None:
        self._universe = universe
        self._needs: dict[int, tuple[Need, ...]] = {}
        self._all: dict[int, list[_Clause]] = {}

    def about(self, number: int) -> list[_Clause]:
        """Return all that a package rules out or asks for."""
        if self.is_hopeless(number):
            return [(-number,)]
        if number not in self._all:
            needs = ((-number, *need.clause) for need in self.needs(number))
            found = self._all[number] = [*needs, *self._excludes(number)]
            self._universe.spend(sum(map(len, found)), self._universe.package(number).name)
        return self._all[number]

    def is_hopeless(self, number: int) -> bool:
        """Tell whether nothing is offered for something that a package requires."""
        return any(not need.clause for need in self.needs(number))

    def needs(self, number: int) -> tuple[Need, ...]:
        """Return all that a package requires and doesn't have by itself."""
        if number not in self._needs:
            self._needs[number] = tuple(dict.fromkeys(self._find_needs(number)))
        return self._needs[number]

    def _find_needs(self, number: int) -> Iterator[Need]:
        universe = self._universe
        excused = self._excused(number)
        for requirement in universe.package(number).requires:
            if requirement in excused or (isinstance(requirement, RpmDependency) and requirement.is_feature):
                continue
            try:
                clauses = normal_form(universe, requirement)
            except TooComplexError:
                clauses = [()]
            for clause in clauses:
                if number not in clause and not (self._is_old(number) and self._fails(clause, number)):
                    yield Need(clause, requirement)

    def _excused(self, number: int) -> frozenset[Requirement]:
        """What the installed package that this one would replace asks for in vain."""
        universe = self._universe
        if universe.is_installed(number):
            return frozenset()
        old = universe.present(universe.package(number).name)
        return frozenset().union(*(universe.was_broken(other) for other in old))

    def _is_old(self, number: int) -> bool:
        return self._universe.is_installed(number)

    def _fails(self, clause: _Clause, number: int) -> bool:
        """Whether the installed set as it is doesn't fulfil a clause about one of it."""
        return not any(
            self._is_old(literal) if literal > 0 else literal != -number and not self._is_old(-literal)
            for literal in clause
        )

    def _excludes(self, number: int) -> Iterator[_Clause]:
        universe = self._universe
        old = self._is_old(number)
        for conflict in universe.package(number).conflicts:
            tolerated = self._tolerated(number, conflict)
            try:
                clauses = normal_form(universe, conflict, negated=True)
            except TooComplexError:
                clauses = [()]
            for clause in clauses:
                if clause == (-number,) or (old and self._fails(clause, number)):
                    continue
                if not (tolerated and self._fails(clause, number)):
                    yield (-number, *clause)
        for other in universe.obsoleted(number):
            if not (old and self._is_old(other)):
                yield (-number, -other)
        if not old:
            for other in universe.named(universe.package(number).name):
                if other != number and universe.exclude_each_other(number, other):
                    yield (-number, -other)

    def _tolerated(self, number: int, conflict: Requirement) -> bool:
        """Whether an installed package of the name has the same conflict."""
        universe = self._universe
        old = universe.present(universe.package(number).name)
        return not self._is_old(number) and any(conflict in universe.package(other).conflicts for other in old)
