# SPDX-License-Identifier: Apache-2.0
"""
Finding values for statements by propagation and by learning from conflicts.

A statement is a number, its negation the negative number; a clause lists literals of which one must hold. Clauses
about a statement are asked for when it is first taken to be true, so that only what may be chosen is ever looked at.
Whoever calls decides in which order to try what: what is tried first only fails if what was tried before rules it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

__all__ = ["MAX_CONFLICTS", "GivenUpError", "Satisfier"]

MAX_CONFLICTS = 1_000

Clause = list[int]
"""The two that are watched come first."""


class GivenUpError(Exception):
    """There were too many conflicts."""


class Satisfier:
    """Values that are consistent with all clauses so far."""

    def __init__(self, expand: Callable[[int], Iterable[Sequence[int]]], most: int = MAX_CONFLICTS) -> None:
        """`expand` gives the clauses about a statement, each with its negation in it."""
        self._expand = expand
        self._most = most
        self._expanded: set[int] = set()
        self._watching: dict[int, list[Clause]] = {}
        self._reasons: dict[int, Clause | None] = {}
        self._levels: dict[int, int] = {}
        self._starts: list[int] = []
        """Where in the trail each decision is."""
        self._next = 0
        self.conflicts = 0
        """How often something had to be taken back."""
        self.true: set[int] = set()
        """Literals that hold."""
        self.trail: list[int] = []
        """The same, in the order in which they came to hold."""

    def is_false(self, literal: int) -> bool:
        return -literal in self.true

    def is_open(self, literal: int) -> bool:
        return literal not in self.true and -literal not in self.true

    def add(self, clause: Sequence[int]) -> None:
        """State something that holds always, before anything is decided. It must not contradict the rest."""
        assert not self._starts
        if (conflict := self._add(list(clause))) is not None:
            raise AssertionError(f"{conflict} contradicts what is known")

    def decide(self, literal: int) -> None:
        """Take an open literal to hold until something shows that it can't. Raises `GivenUpError`."""
        self._starts.append(len(self.trail))
        self._hold(literal, None)
        self.settle()

    def settle(self) -> None:
        """Draw all conclusions. Raises `GivenUpError`."""
        while (conflict := self._propagate()) is not None:
            self.conflicts += 1
            if self.conflicts > self._most:
                raise GivenUpError
            learned, level = self._analyze(conflict)
            self._go_back(level)
            self._add(learned)

    def _hold(self, literal: int, reason: Clause | None) -> None:
        self.true.add(literal)
        self.trail.append(literal)
        self._reasons[abs(literal)] = reason
        self._levels[abs(literal)] = len(self._starts)

    def _add(self, clause: Clause) -> Clause | None:
        """Take up a clause, and return it if nothing in it can hold."""
        clause = list(dict.fromkeys(clause))
        if any(-literal in clause for literal in clause):
            return None
        clause.sort(key=self._depth, reverse=True)
        for literal in clause[:2]:
            self._watching.setdefault(-literal, []).append(clause)
        if -clause[0] in self.true:
            return clause
        if clause[0] not in self.true and (len(clause) == 1 or -clause[1] in self.true):
            self._hold(clause[0], clause)
        return None

    def _depth(self, literal: int) -> int:
        """How far back one has to go for a literal not to be false."""
        return self._levels[abs(literal)] if -literal in self.true else 1 << 30

    def _propagate(self) -> Clause | None:
        while self._next < len(self.trail):
            literal = self.trail[self._next]
            self._next += 1
            if literal > 0 and literal not in self._expanded:
                self._expanded.add(literal)
                found = [self._add(list(clause)) for clause in self._expand(literal)]
                conflict = next((clause for clause in found if clause is not None), None)
                if conflict is not None:
                    return conflict
            if (conflict := self._visit(literal)) is not None:
                return conflict
        return None

    def _visit(self, literal: int) -> Clause | None:
        """Look at the clauses in which something has become false."""
        true = self.true
        watching = self._watching.get(literal, [])
        kept: list[Clause] = []
        for number, clause in enumerate(watching):
            if clause[0] == -literal and len(clause) > 1:
                clause[0], clause[1] = clause[1], clause[0]
            if clause[0] in true:
                kept.append(clause)
                continue
            for place in range(2, len(clause)):
                if -clause[place] not in true:
                    clause[1], clause[place] = clause[place], clause[1]
                    self._watching.setdefault(-clause[1], []).append(clause)
                    break
            else:
                kept.append(clause)
                if -clause[0] in true:
                    self._watching[literal] = kept + watching[number + 1 :]
                    return clause
                self._hold(clause[0], clause)
        self._watching[literal] = kept
        return None

    def _analyze(self, conflict: Clause) -> tuple[Clause, int]:
        """Find what of the decisions so far can't be together, as a clause, and how far to go back for it."""
        level = len(self._starts)
        assert level
        seen: set[int] = set()
        learned: Clause = []
        pending = 0
        clause: Clause | None = conflict
        position = len(self.trail)
        while True:
            for literal in clause or ():
                number = abs(literal)
                if number in seen or literal in self.true or not self._levels[number]:
                    continue
                seen.add(number)
                if self._levels[number] == level:
                    pending += 1
                else:
                    learned.append(literal)
            while True:
                position -= 1
                if abs(self.trail[position]) in seen:
                    break
            literal = self.trail[position]
            pending -= 1
            if not pending:
                break
            clause = self._reasons[abs(literal)]
        back = max((self._levels[abs(other)] for other in learned), default=0)
        return [-literal, *learned], back

    def _go_back(self, level: int) -> None:
        start = self._starts[level]
        for literal in self.trail[start:]:
            self.true.discard(literal)
        del self.trail[start:]
        del self._starts[level:]
        self._next = min(self._next, start)
