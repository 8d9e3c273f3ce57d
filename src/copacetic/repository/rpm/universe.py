# SPDX-License-Identifier: Apache-2.0
"""
Everything that a set of packages may be made of: what is installed, and what repositories offer for it.

Packages are numbered as they are met, the installed ones first; only what something asks for is ever looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cmp_to_key
from typing import Any

from msgspec import Struct

from copacetic.errors import RepositoryError
from copacetic.printable import printable
from copacetic.repository.rpm.architecture import are_exclusive, compatible_architectures, is_change_allowed
from copacetic.repository.rpm.offer import RpmOffer, RpmOfferSource
from copacetic.rpm.dependency import EQUAL, GREATER, Requirement, RpmDependency, holds
from copacetic.version import compare_versions
from copacetic.version.rpm import RpmVersion

__all__ = ["RpmRules", "RpmUniverse"]

MAX_OFFERS = 200_000
MAX_VERSIONS = 2_000
"""Of one name, in all repositories."""
MAX_STEPS = 2_000_000
"""Pairs of packages that have to do with each other: with 760 packages installed there are 28,000."""
_INSTALL_ONLY = "installonlypkg("


class RpmRules(Struct, frozen=True, kw_only=True):
    """What an image's configuration and its rpm say about what may be together."""

    architecture: str
    """The image's own."""
    install_only: frozenset[str] = frozenset()
    """Names of which several versions may be installed (`installonlypkgs`); some packages say so of themselves."""
    multilib: bool = True
    """Whether packages of one name may be there for 32 and for 64 bits, which are of one version then."""
    keeps_vendor: bool = False
    """Whether nothing is replaced by what has another vendor in its header."""
    withheld: Callable[[RpmOffer, RpmOffer], str] = lambda _old, _new: ""
    """Why an offer can't take an installed package's place, as for whose it is; empty if it may."""


class RpmUniverse:
    """What is installed, and what may come in."""

    def __init__(self, installed: Sequence[RpmOffer], source: RpmOfferSource, rules: RpmRules) -> None:
        self.rules = rules
        self._source = source
        self._ranks = {name: rank for rank, name in enumerate(compatible_architectures(rules.architecture))}
        self._left = MAX_STEPS
        self._packages: list[RpmOffer] = []
        self._numbers: dict[int, int] = {}
        self._providers: dict[RpmDependency, tuple[int, ...]] = {}
        self._having: dict[str, tuple[int, ...]] = {}
        self._named: dict[str, tuple[int, ...]] = {}
        self._updates: dict[int, tuple[int, ...]] = {}
        self._broken: dict[int, frozenset[Requirement]] = {}
        self._orders: dict[int, tuple[Any, ...]] = {}
        self._install_only: dict[int, bool] = {}
        self._present: dict[str, list[int]] = {}
        for offer in installed:
            self._number(offer)
        self.installed = range(1, len(installed) + 1)
        self._nevras = {offer.nevra for offer in installed}
        self._own: dict[str, list[int]] = {}
        for number in self.installed:
            offer = self.package(number)
            self._own.setdefault(offer.name, []).append(number)
            for name in dict.fromkeys([offer.name, *(provided.name for provided in offer.provides)]):
                self._present.setdefault(name, []).append(number)

    def package(self, number: int) -> RpmOffer:
        return self._packages[number - 1]

    def spend(self, steps: int, name: str) -> None:
        """Count what is looked at. Raises `RepositoryError` when it is too much, naming what it is about."""
        self._left -= steps
        if self._left < 0:
            raise RepositoryError(f"too many packages have to do with others, as with {printable(name)[:100]}")

    def _number(self, offer: RpmOffer) -> int:
        number = self._numbers.get(id(offer))
        if number is None:
            if len(self._packages) >= MAX_OFFERS:
                raise RepositoryError(f"more than {MAX_OFFERS} packages have to do with the installed ones")
            self._packages.append(offer)
            number = self._numbers[id(offer)] = len(self._packages)
        return number

    def _usable(self, offers: Iterable[RpmOffer]) -> list[int]:
        """What is installed already isn't installed anew, and of other machines' packages nothing is."""
        return [
            self._number(offer)
            for offer in offers
            if offer.architecture in self._ranks and offer.nevra not in self._nevras
        ]

    def is_installed(self, number: int) -> bool:
        return number < self.installed.stop

    def rank(self, number: int) -> int:
        """How good a package's architecture is, 0 for the best."""
        return self._ranks.get(self.package(number).architecture, len(self._ranks))

    def named(self, name: str) -> tuple[int, ...]:
        """Return the packages of a name, the installed ones first."""
        if name not in self._named:
            offers = self._usable(self._source.named(name))
            if len(offers) > MAX_VERSIONS:
                raise RepositoryError(f"{len(offers)} packages of the name {printable(name)[:100]} are offered")
            self._named[name] = tuple(dict.fromkeys([*self._own.get(name, ()), *offers]))
        return self._named[name]

    def present(self, name: str) -> Sequence[int]:
        """Return the installed packages of a name."""
        return self._own.get(name, ())

    def providers(self, asked: RpmDependency) -> tuple[int, ...]:
        """Return the packages that meet a simple dependency, the installed ones first."""
        found = self._providers.get(asked)
        if found is None:
            having = self._all_having(asked.name)
            self.spend(len(having), asked.name)
            found = self._providers[asked] = tuple(number for number in having if self.meets(number, asked))
        return found

    def _all_having(self, name: str) -> tuple[int, ...]:
        if name not in self._having:
            found = list(self._present.get(name, ()))
            if name.startswith("/"):
                found += [number for number in self.installed if name in self.package(number).files]
            found += self._usable(self._source.providing(name))
            self._having[name] = tuple(dict.fromkeys(found))
        return self._having[name]

    def meets(self, number: int, asked: RpmDependency) -> bool:
        """Tell whether a package itself meets a simple dependency."""
        offer = self.package(number)
        if asked.name == offer.name and asked.matches(offer.itself):
            return True
        if not asked.flags and asked.name in offer.files:
            return True
        return any(provided.name == asked.name and asked.matches(provided) for provided in offer.provides)

    def obsoleted(self, number: int) -> list[int]:
        """Return the packages whose place a package takes by what it obsoletes."""
        offer = self.package(number)
        self.spend(sum(len(self.named(obsolete.name)) for obsolete in offer.obsoletes), offer.name)
        return [
            other
            for obsolete in offer.obsoletes
            for other in self.named(obsolete.name)
            if other != number and obsolete.matches(self.package(other).itself)
        ]

    def is_install_only(self, number: int) -> bool:
        """Tell whether several versions of a package may be there."""
        if number not in self._install_only:
            offer = self.package(number)
            says_so = any(provided.name.startswith(_INSTALL_ONLY) for provided in offer.provides)
            self._install_only[number] = says_so or offer.name in self.rules.install_only
        return self._install_only[number]

    def compare(self, one: int, other: int) -> int:
        a, b = self._order(one), self._order(other)
        return (a > b) - (a < b)

    def _order(self, number: int) -> tuple[Any, ...]:
        found = self._orders.get(number)
        if found is None:
            found = self._orders[number] = RpmVersion(self.package(number).evr).order
        return found

    def exclude_each_other(self, one: int, other: int) -> bool:
        """Tell whether two packages of one name, other than by what they say themselves, can't be there together."""
        first, second = self.package(one), self.package(other)
        if self.is_install_only(one):
            return first.nevra == second.nevra
        if self._are_exclusive(first, second):
            return True
        return self.compare(one, other) != 0

    def _are_exclusive(self, one: RpmOffer, other: RpmOffer) -> bool:
        return not self.rules.multilib or are_exclusive(one.architecture, other.architecture)

    def updates(self, number: int) -> tuple[int, ...]:
        """
        Return what may take an installed package's place: newer ones of its name, and those that obsolete it, which
        are rather looked for among those that provide its name.
        """
        if number not in self._updates:
            if self.is_install_only(number):
                return ()
            name = self.package(number).name
            newer = [other for other in self.named(name) if self._is_newer(number, other)]
            heirs = [other for other in self._heirs(number) if self._may_replace(number, other)]
            self._updates[number] = (*newer, *heirs)
        return self._updates[number]

    def beside(self, number: int) -> list[int]:
        """Return what is newer than all that is installed of a package of which several versions may be there."""
        name, architecture = self.package(number).name, self.package(number).architecture
        if not self.is_install_only(number):
            return []
        return [
            other
            for other in self.named(name)
            if self.package(other).architecture == architecture
            and all(self.compare(other, old) > 0 for old in self.present(name))
        ]

    def _heirs(self, number: int) -> list[int]:
        name = self.package(number).name
        offers = self._usable(self._source.obsoleting(name))
        heirs = [other for other in offers if self.package(other).name != name and number in self.obsoleted(other)]
        providing = [other for other in heirs if any(p.name == name for p in self.package(other).provides)]
        return providing or heirs

    def _is_newer(self, number: int, other: int) -> bool:
        if self.is_installed(other) or self.compare(number, other) >= 0:
            return False
        old, new = self.package(number), self.package(other)
        return self._are_exclusive(old, new) and self._may_replace(number, other)

    def _may_replace(self, number: int, other: int) -> bool:
        old, new = self.package(number), self.package(other)
        if not is_change_allowed(old.architecture, new.architecture):
            return False
        if self.rules.keeps_vendor and old.vendor != new.vendor:
            return False
        return not self.rules.withheld(old, new)

    def was_broken(self, number: int) -> frozenset[Requirement]:
        """Return the requirements of an installed package that aren't met as things are."""
        if number not in self._broken:
            requires = self.package(number).requires
            self._broken[number] = frozenset(one for one in requires if not holds(one, self._met_now))
        return self._broken[number]

    def _met_now(self, asked: RpmDependency) -> frozenset[int]:
        if asked.is_feature:
            return frozenset([0])
        return frozenset(number for number in self.providers(asked) if self.is_installed(number))

    def is_outdated(self, number: int) -> bool:
        """Tell whether a package is offered in a newer version, which for some reason isn't one of a choice."""
        return self._order(number) < max(map(self._order, self.named(self.package(number).name)))

    def most_of(self, asked: Requirement | None, numbers: Sequence[int]) -> list[int]:
        """Return those that provide the newest version of a simple dependency, and those that do without a version."""
        if not isinstance(asked, RpmDependency) or len(numbers) < 2:
            return list(numbers)
        newest: dict[int, RpmDependency] = {}
        for number in numbers:
            offer = self.package(number)
            found = [one for one in (offer.itself, *offer.provides) if one.name == asked.name and asked.matches(one)]
            if versioned := [one for one in found if one.flags]:
                newest[number] = max(versioned, key=cmp_to_key(_compare_provided))
        best = max(newest.values(), key=cmp_to_key(_compare_provided), default=None)
        return [n for n in numbers if best is None or n not in newest or not _compare_provided(newest[n], best)]

    def newest_first(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers, key=self._order, reverse=True)


def _compare_provided(one: RpmDependency, other: RpmDependency) -> int:
    return compare_versions("rpm", one.evr, other.evr) or _reach(one.flags) - _reach(other.flags)


def _reach(flags: int) -> int:
    """Below a version, the version itself, and above it."""
    return 2 if flags & GREATER else 1 if flags & EQUAL else 0
