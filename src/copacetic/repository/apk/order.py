# SPDX-License-Identifier: Apache-2.0
"""
The order in which apk commits a set of changes; it decides who wins a path, and what scripts and lists look like.

`world` is walked by name and depth first, through the dependencies of the new packages in their own order, so that a
package comes after what it needs. When a package is done, what comes in by itself (install_if) and is complete now
follows at once; an installed package that nobody names any more goes as soon as the last one that did has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from copacetic.apk.dependency import Dependency
from copacetic.repository.apk.offers import Offer, Universe
from copacetic.repository.apk.solve import Solution

_Steps = Iterator["_Steps"]
"""A part of the walk; it yields what is to be done before it goes on: a chain may be longer than the stack is deep."""

__all__ = ["Step", "order_changes"]


class Step(Struct, frozen=True):
    """One package that changes: `old` is None for a new one, `new` for one that goes."""

    old: Offer | None
    new: Offer | None


def order_changes(universe: Universe, solution: Solution, world: Iterable[Dependency]) -> list[Step]:
    """Return what differs between what is installed and the solution, in apk's order."""
    walk = _Walk(universe, solution)
    pending = [walk.run(sorted(world, key=lambda dependency: (dependency.name.lower(), dependency.name)))]
    while pending:
        inner = next(pending[-1], None)
        if inner is None:
            pending.pop()
        else:
            pending.append(inner)
    return walk.steps


class _Walk:
    def __init__(self, universe: Universe, solution: Solution) -> None:
        self._universe = universe
        self._chosen = solution.chosen
        self._answers = solution.answers
        self._installed = universe.installed
        self.steps: list[Step] = []
        self._done: set[Offer] = set()
        self._seen: set[str] = set()
        self._home: dict[str, str] = {}
        """Names that installed packages answer to exclusively → the package's own name."""
        for offer in self._installed.values():
            for name, version in offer.provides.items():
                if name == offer.name or version is not None:
                    self._home[name] = offer.name
        self._needed: dict[str, int] = defaultdict(int)
        """How many dependencies of installed packages name an installed package."""
        self._waiting: dict[str, list[Offer]] = defaultdict(list)
        """Offers by the names in their install_if."""
        for offer in universe.conditional:
            for dependency in offer.install_if:
                self._waiting[dependency.name].append(offer)

    def run(self, world: Iterable[Dependency]) -> _Steps:
        for offer in self._installed.values():
            yield self._count(offer, 1)
        for offer in list(self._installed.values()):
            if not self._needed[offer.name] and self._answer(offer.name) is None:
                yield self._remove(offer)
        for dependency in world:
            yield self._change(dependency.name)
        for name in list(self._installed):
            yield self._change(name)

    def _answer(self, name: str) -> Offer | None:
        answer = self._answers.get(name)
        return answer[0] if answer is not None else None

    def _count(self, offer: Offer, by: int) -> _Steps:
        """Count who is named by a package that comes or goes; one that nobody names any more goes itself."""
        for dependency in offer.depends:
            name = self._home.get(dependency.name)
            if dependency.conflict or name is None:
                continue
            self._needed[name] += by
            if by < 0 and self._needed[name] <= 0 and dependency.name in self._installed:
                yield self._remove(self._installed[dependency.name])

    def _change(self, name: str) -> _Steps:
        if name in self._seen:
            return
        yield self._forsake(name)
        offer = self._answer(name)
        if offer is None or offer in self._done or offer.assumed:
            return
        self._done.add(offer)
        for provided in offer.provides:
            yield self._forsake(provided)
        old = self._installed.get(offer.name)
        if old is not None:
            yield self._follow(old, leaving=True)
        for dependency in offer.depends:
            yield self._change(dependency.name)
        if old is not offer:
            self.steps.append(Step(old, offer))
        yield self._follow(offer, leaving=False)
        yield self._count(offer, 1)
        if old is not None:
            yield self._count(old, -1)

    def _forsake(self, name: str) -> _Steps:
        """Let go whoever had a name that somebody else has now, or nobody."""
        if name in self._seen:
            return
        self._seen.add(name)
        answer = self._answer(name)
        if name in self._installed and (answer is None or answer.name != name):
            yield self._remove(self._installed[name])
        for offer, _ in self._universe.providers.get(name, ()):
            if self._installed.get(offer.name) is offer and self._answer(offer.name) is None:
                yield self._remove(offer)

    def _remove(self, offer: Offer) -> _Steps:
        if offer in self._done or offer.name in self._chosen:
            return
        self._done.add(offer)
        self._seen.add(offer.name)
        for other in list(self._installed.values()):
            if any(
                not d.conflict and d.name in offer.provides and self._universe.matches(d, offer, offer.provides[d.name])
                for d in other.depends
            ):
                yield self._remove(other)
        yield self._follow(offer, leaving=True)
        self.steps.append(Step(offer, None))
        yield self._count(offer, -1)

    def _follow(self, offer: Offer, *, leaving: bool) -> _Steps:
        """Change what came in, or comes in, because of a package."""
        for name in offer.provides:
            for other in self._waiting.get(name, ()):
                if leaving:
                    if self._loses_ground(other):
                        yield self._remove(other)
                elif self._chosen.get(other.name) is other and other.name not in self._seen and self._complete(other):
                    yield self._change(other.name)

    def _loses_ground(self, offer: Offer) -> bool:
        return (
            self._installed.get(offer.name) is offer
            and offer.name not in self._seen
            and offer.name not in self._chosen
            and not self._needed[offer.name]
            and any(d.name in self._seen and self._answer(d.name) is None for d in offer.install_if)
        )

    def _complete(self, offer: Offer) -> bool:
        for dependency in offer.install_if:
            answer = self._answers.get(dependency.name)
            if dependency.name not in self._seen or answer is None:
                return False
            if not self._universe.accepts(dependency, *answer):
                return False
        return True
