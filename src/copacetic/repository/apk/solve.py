# SPDX-License-Identifier: Apache-2.0
"""
The resulting set, by propagation and a small backtracking search.

What a choice rules out is ruled out at once; a name with one offer left is decided; only then is one chosen, the
best first by apk's own preferences. A set is complete when every name that is needed has its offer, and everything
that comes in by itself (install_if) is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from msgspec import Struct

from copacetic.apk.dependency import Dependency
from copacetic.repository.apk.offers import Offer, Universe

__all__ = ["Pins", "Solution", "TooHardError", "UnsolvableError", "solve", "unmet"]

MAX_NODES = 3_000
_FAR = 1 << 30


class UnsolvableError(Exception):
    """No set fulfils what is asked for."""


class TooHardError(UnsolvableError):
    """The search was given up."""


class Pins(Struct, frozen=True):
    """Which packages may move, and how far."""

    lifts: Callable[[str], bool] = lambda _name: True
    """Whether a package of this name is to be upgraded; all others rather stay as they are."""
    closest: bool = False
    """Whether of the versions of an installed package the oldest is taken that will do, and not the newest."""
    excluded: Callable[[Offer], bool] = lambda _offer: False
    """Offers that can't be part of the set."""


class Solution(Struct, frozen=True):
    """A consistent set."""

    chosen: dict[str, Offer]
    """By package name."""
    answers: dict[str, tuple[Offer, str | None]]
    """Who answers to which name, and with which version."""


@dataclass(slots=True)
class _Frame:
    """A decision, with what else it could have been."""

    state: _State
    options: Iterator[tuple[Offer, bool]]
    """Offers, to be taken (or not, for one that could come in by itself)."""


def solve(universe: Universe, world: Iterable[Dependency], preferences: Pins) -> Solution:
    """Raises `UnsolvableError`."""
    state = _State(universe, preferences)
    state.start(world)
    frames: list[_Frame] = []
    nodes = 0
    while True:
        nodes += 1
        if nodes > MAX_NODES:
            raise TooHardError
        try:
            state.propagate()
            options = state.next_options()
        except UnsolvableError:
            options = iter(())
            if not frames:
                raise
        else:
            if options is None:
                return state.solution()
            frames.append(_Frame(state, options))
        state = _advance(frames)


def _advance(frames: list[_Frame]) -> _State:
    """Take the next option of the last decision that has one left."""
    while frames:
        frame = frames[-1]
        for offer, taken in frame.options:
            state = frame.state.copy()
            try:
                if taken:
                    state.choose(offer)
                else:
                    state.exclude(offer)
            except UnsolvableError:
                continue
            return state
        frames.pop()
    raise UnsolvableError


class _State:
    """What is decided so far."""

    def __init__(self, universe: Universe, preferences: Pins) -> None:
        self._universe = universe
        self._preferences = preferences
        self._out: set[Offer] = set()
        self._required: dict[str, int] = {}
        """Needed names, by when they were found to be."""
        self._chosen: dict[str, Offer] = {}
        self._answers: dict[str, tuple[Offer, str | None]] = {}
        self._tags: dict[str, frozenset[str]] = {}
        """What `world` says, by package name."""
        self._inherited: dict[str, frozenset[str]] = {}
        """Tags of those that need a package, by its name: they permit, and don't prefer."""
        self._dirty: dict[str, None] = {}
        """Names about which something has changed."""

    def copy(self) -> _State:
        other = _State(self._universe, self._preferences)
        other._out = set(self._out)
        other._required = dict(self._required)
        other._chosen = dict(self._chosen)
        other._answers = dict(self._answers)
        other._tags = dict(self._tags)
        other._inherited = dict(self._inherited)
        return other

    def solution(self) -> Solution:
        return Solution(self._chosen, self._answers)

    def start(self, world: Iterable[Dependency]) -> None:
        """Raises `UnsolvableError`."""
        universe = self._universe
        for offer in universe.offers:
            if not offer.assumed and self._preferences.excluded(offer):
                self._out.add(offer)
        self._dirty = dict.fromkeys(universe.providers) | dict.fromkeys(universe.dependants)
        for offer in universe.assumed:
            if offer not in self._out:  # of two that exclude each other the first counts
                self.choose(offer)
        for dependency in world:
            if dependency not in universe.unmet[""] or universe.providers.get(dependency.name):
                self._require(dependency)

    def exclude(self, offer: Offer) -> None:
        if offer in self._out:
            return
        if self._chosen.get(offer.name) is offer:
            raise UnsolvableError
        self._out.add(offer)
        self._dirty.update(dict.fromkeys(offer.provides))

    def choose(self, offer: Offer) -> None:
        if self._chosen.get(offer.name) is offer:
            return
        if offer in self._out:
            raise UnsolvableError
        self._chosen[offer.name] = offer
        for name, version in offer.provides.items():
            present = self._answers.get(name)
            if present is not None and not (present[1] is None and version is None):
                raise UnsolvableError
            self._answers.setdefault(name, (offer, version))
            self._dirty[name] = None
            for other, other_version in self._universe.providers[name]:
                if other is not offer and not (version is None and other_version is None):
                    self.exclude(other)
        tags = self._permitted(offer.name)
        for dependency in offer.depends:
            if tags and not dependency.conflict:
                self._inherit(dependency.name, tags)
            self._require(dependency)

    def _inherit(self, name: str, tags: frozenset[str]) -> None:
        for other, _ in self._universe.providers.get(name, ()):
            self._inherited[other.name] = self._inherited.get(other.name, frozenset()) | tags

    def _permitted(self, name: str) -> frozenset[str]:
        """The tags from whose repositories a package of this name may come."""
        return self._tags.get(name, frozenset()) | self._inherited.get(name, frozenset())

    def propagate(self) -> None:
        """Decide what has no alternative. Raises `UnsolvableError`."""
        while self._dirty:
            name = next(iter(self._dirty))
            del self._dirty[name]
            for offer in self._universe.dependants.get(name, ()):
                if offer not in self._out and not self._possible(offer, name):
                    self.exclude(offer)
            if name in self._required and name not in self._answers:
                options = self._options(name)
                if not options:
                    raise UnsolvableError
                if len(options) == 1:
                    self.choose(options[0][0])

    def next_options(self) -> Iterator[tuple[Offer, bool]] | None:
        """Return what to try for the next open decision; None when all is decided."""
        name = min((name for name in self._required if name not in self._answers), key=self._urgency, default=None)
        if name is not None:
            return ((offer, True) for offer in self._ranked(name))
        for offer in self._universe.conditional:
            if offer.name in self._chosen or offer in self._out or not self._comes_in(offer):
                continue
            best = next((other for other in self._ranked(offer.name) if self._comes_in(other)), offer)
            if self._allowed(best):
                return iter([(best, True), (offer, False)])
        return None

    def _require(self, dependency: Dependency) -> None:
        universe = self._universe
        name = dependency.name
        if not dependency.conflict:
            self._required.setdefault(name, len(self._required))
            self._dirty[name] = None
        if dependency.tag:
            self._tags[name] = self._tags.get(name, frozenset()) | {dependency.tag}
        for offer, version in universe.providers.get(name, ()):
            if not universe.accepts(dependency, offer, version):
                self.exclude(offer)

    def _possible(self, offer: Offer, name: str) -> bool:
        """Whether everything that an offer says about a name can still be."""
        universe = self._universe
        answer = self._answers.get(name)
        for dependency in offer.depends:
            if dependency.name != name:
                continue
            if dependency.conflict:
                if answer is not None and answer[0] is not offer and not universe.accepts(dependency, *answer):
                    return False
            elif not any(
                other not in self._out and universe.matches(dependency, other, version)
                for other, version in universe.providers.get(name, ())
            ):
                return False
        return True

    def _options(self, name: str) -> list[tuple[Offer, str | None]]:
        return [
            (offer, version)
            for offer, version in self._universe.providers.get(name, ())
            if offer not in self._out and self._allowed(offer)
        ]

    def _allowed(self, offer: Offer) -> bool:
        """Whether somebody has asked for the tag of one of its repositories, if all of them are tagged."""
        if offer.installed or not offer.sources:
            return True
        tags = self._source_tags(offer)
        return "" in tags or bool(tags & self._permitted(offer.name))

    def _source_tags(self, offer: Offer) -> set[str]:
        return {self._universe.sources[number].tag for number in offer.sources}

    def _urgency(self, name: str) -> tuple[bool, bool, int]:
        """Real names before virtual ones, those without rivals first, then in the order of discovery."""
        own = [offer.name == name for offer, _ in self._universe.providers.get(name, ())]
        return not any(own), not all(own), self._required[name]

    def _comes_in(self, offer: Offer) -> bool:
        if not offer.install_if:
            return False
        for dependency in offer.install_if:
            answer = self._answers.get(dependency.name)
            if dependency.conflict:
                if answer is not None and self._universe.matches(dependency, *answer):
                    return False
            elif answer is None or not self._universe.matches(dependency, *answer):
                return False
        return True

    def _ranked(self, name: str) -> list[Offer]:
        options = self._options(name)
        if len(options) > 1:
            # Of many packages that provide a name without a version, none is picked on its own.
            options = [
                (offer, version)
                for offer, version in options
                if version is not None or offer.priority or offer.name in self._required
            ]
        return [offer for offer, _ in sorted(options, key=cmp_to_key(self._order), reverse=True)]

    def _order(self, one: tuple[Offer, str | None], two: tuple[Offer, str | None]) -> int:
        """Compare two offers for a name; the greater is the better."""
        (a, version_a), (b, version_b) = one, two
        order = self._preferred(a) - self._preferred(b)
        lifted = self._preferences.lifts(a.name) or self._preferences.lifts(b.name)
        lifted = lifted and not (self._is_borrowed(a) or self._is_borrowed(b))
        if not order and not lifted:
            order = a.installed - b.installed
        if not order and self._preferences.closest and a.name == b.name in self._universe.installed:
            order = self._universe.compare(b.version, a.version)
        if not order and version_a is not None and version_b is not None:
            order = self._universe.compare(version_a, version_b)
        if not order and a.name == b.name:
            order = self._universe.compare(a.version, b.version)
        return (
            order
            or a.installed - b.installed
            or a.priority - b.priority
            or min(b.sources, default=_FAR) - min(a.sources, default=_FAR)
        )

    def _preferred(self, offer: Offer) -> bool:
        """Whether it comes from where `world` wants its name from: a tag, or else a repository without one."""
        if not offer.sources:
            return not any(source.tag for source in self._universe.sources)
        return bool(self._source_tags(offer) & self._tags.get(offer.name, frozenset({""})))

    def _is_borrowed(self, offer: Offer) -> bool:
        """Whether it may only come in since one that needs it has its tag: such an offer lifts nothing by itself."""
        return bool(offer.sources) and not self._source_tags(offer) & (self._tags.get(offer.name, frozenset()) | {""})


def unmet(universe: Universe, chosen: Sequence[Offer], world: Iterable[Dependency]) -> list[str]:
    """Return, as sentences, what a set lacks: an independent look at a solution."""
    found: list[str] = []
    for offer in chosen:
        others = [other for other in chosen if other is not offer]
        found += [
            f"{offer} asks for {dependency}"
            for dependency in offer.depends
            if not universe.is_met(dependency, others if dependency.conflict else chosen)
        ]
    found += [f"world asks for {d}" for d in world if d not in universe.unmet[""] and not universe.is_met(d, chosen)]
    return found
