# SPDX-License-Identifier: Apache-2.0
"""
Everything that a set of packages may be made of: what is installed, and what repositories offer for it.

A package is its identity: the same one in two repositories, or installed already, is one offer. Only what the
installed packages and `world` can reach by dependencies is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from copacetic.apk.dependency import Dependency, DependencyError, dependencies_of, provided_names
from copacetic.apk.stanza import ApkStanza
from copacetic.errors import InvalidVersionError, RepositoryError
from copacetic.repository.odd import OddRows
from copacetic.strict import read_digits
from copacetic.version import compare_versions

__all__ = ["Offer", "OfferSource", "Universe"]

MAX_OFFERS = 200_000


class OfferSource(Protocol):
    """A repository, as the search sees it."""

    @property
    def tag(self) -> str: ...

    def rows(self, name: str) -> Iterable[Mapping[str, str]]:
        """Return the rows of packages that have or provide a name."""
        ...

    def rows_if(self, name: str) -> Iterable[Mapping[str, str]]:
        """Return the rows of packages whose install_if has a name."""
        ...


@dataclass(eq=False, slots=True)
class Offer:
    """One package that may be in the resulting set."""

    name: str
    version: str
    identity: str
    fields: Mapping[str, str]
    depends: tuple[Dependency, ...]
    provides: Mapping[str, str | None]
    """Every name it answers to, its own first, with versions."""
    install_if: tuple[Dependency, ...]
    priority: int
    sources: list[int] = field(default_factory=list)
    """Positions of the repositories that have it."""
    installed: bool = False
    assumed: bool = False
    """Installed, and out of reach: it is there, and stays."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Universe:
    """The offers, by what they answer to."""

    def __init__(
        self,
        installed: Sequence[Mapping[str, str]],
        sources: Sequence[OfferSource],
        world: Sequence[Dependency],
        *,
        scheme: str,
        assumed: Sequence[Mapping[str, str]] = (),
        odd: OddRows | None = None,
    ) -> None:
        """
        `installed` and `assumed` are records of the database; `odd` takes what repositories offer and can't be read.
        Raises `RepositoryError`.
        """
        self._odd = odd or OddRows()
        self.scheme = scheme
        self.sources = tuple(sources)
        self.installed: dict[str, Offer] = {}
        self.assumed: list[Offer] = []
        self.providers: dict[str, list[tuple[Offer, str | None]]] = defaultdict(list)
        self.dependants: dict[str, list[Offer]] = defaultdict(list)
        """By the names that they depend on, or exclude."""
        self.conditional: list[Offer] = []
        """Offers with install_if."""
        self._offers: dict[str, Offer] = {}
        self._met: dict[tuple[Dependency, str | None, str], bool] = {}
        self._names: set[str] = set()
        for row in installed:
            offer = self._add_present(row)
            offer.installed = True
            self.installed[offer.name] = offer
        for row in assumed:
            offer = self._add_present(row)
            offer.installed = offer.assumed = True
            offer.depends = offer.install_if = ()
            self.assumed.append(offer)
        self._drop_unmet(world)
        self._fill(world)
        for offer in self._offers.values():
            self._keep_without(offer)
            for name in dict.fromkeys(dependency.name for dependency in offer.depends):
                self.dependants[name].append(offer)
            if offer.install_if:
                self.conditional.append(offer)
        self.conditional.sort(key=lambda offer: offer.name)

    def compare(self, one: str, two: str) -> int:
        """Compare versions; none is later than one that can't be read."""
        try:
            return compare_versions(self.scheme, one, two)
        except InvalidVersionError:
            return 0

    @property
    def offers(self) -> Iterator[Offer]:
        return iter(self._offers.values())

    def matches(self, dependency: Dependency, offer: Offer, version: str | None) -> bool:
        """Tell whether an offer, with the version that it has under the name, meets the positive form."""
        if not dependency.operator:
            return True
        key = (dependency, version, offer.identity if dependency.operator == "><" else "")
        met = self._met.get(key)
        if met is None:
            met = self._met[key] = dependency.matches(version, offer.identity, self.scheme)
        return met

    def accepts(self, dependency: Dependency, offer: Offer, version: str | None) -> bool:
        """Tell whether a dependency (or a conflict) has nothing against an offer that answers to its name."""
        return self.matches(dependency, offer, version) != dependency.conflict

    def is_met(self, dependency: Dependency, offers: Iterable[Offer]) -> bool:
        """Tell whether a positive dependency is met by one of some offers, or a conflict by none."""
        found = any(
            dependency.name in offer.provides and self.matches(dependency, offer, offer.provides[dependency.name])
            for offer in offers
        )
        return found != dependency.conflict

    def _add_present(self, fields: Mapping[str, str]) -> Offer:
        try:
            return self._add(fields, None)
        except DependencyError as error:
            what = f"{fields['P']} {fields['V']}"
            raise RepositoryError(f"can't read what {what} depends on, which is installed: {error}") from error

    def _add(self, fields: Mapping[str, str], source: int | None) -> Offer:
        name, version = fields["P"], fields["V"]
        identity = fields.get("C") or f"{name}-{version}"
        offer = self._offers.get(identity)
        if offer is None:
            row = ApkStanza(fields)
            offer = Offer(
                name=name,
                version=version,
                identity=identity,
                fields=fields,
                depends=dependencies_of(row, "D"),
                provides=provided_names(row),
                install_if=dependencies_of(row, "i"),
                priority=read_digits(fields.get("k", ""), most=9) or 0,
            )
            self._offers[identity] = offer
            if len(self._offers) > MAX_OFFERS:
                raise RepositoryError(f"the image reaches more than {MAX_OFFERS} packages")
            for provided, provided_version in offer.provides.items():
                self.providers[provided].append((offer, provided_version))
        if source is not None and source not in offer.sources:
            offer.sources.append(source)
        return offer

    def _drop_unmet(self, world: Sequence[Dependency]) -> None:
        """What isn't met before is nobody's business: only what becomes newly broken is judged."""
        present = [*self.installed.values(), *self.assumed]
        by_name: dict[str, list[Offer]] = defaultdict(list)
        for offer in present:
            for name in offer.provides:
                by_name[name].append(offer)
        self.unmet: dict[str, frozenset[Dependency]] = {}
        """Dependencies of installed packages, by their names, and of `world` (""), that are not met now."""
        for offer in self.installed.values():
            missing = frozenset(d for d in offer.depends if not self.is_met(d, by_name.get(d.name, ())))
            if missing:
                self.unmet[offer.name] = missing
        self.unmet[""] = frozenset(d for d in world if not self.is_met(d, by_name.get(d.name, ())))

    def _keep_without(self, offer: Offer) -> None:
        """Let a new version of a package lack what the old one lacked, as long as nobody has it."""
        missing = self.unmet.get(offer.name)
        if not missing:
            return
        if offer.installed:
            offer.depends = tuple(d for d in offer.depends if d not in missing)
            return
        names = {dependency.name for dependency in missing}
        offer.depends = tuple(d for d in offer.depends if d.name not in names or self.providers.get(d.name))

    def _fill(self, world: Sequence[Dependency]) -> None:
        """Add what is reachable by names, and what comes in by itself when several names are."""
        pending = list(dict.fromkeys([*(d.name for d in world), *self.installed]))
        for offer in list(self._offers.values()):
            pending += [dependency.name for dependency in offer.depends]
        while pending:
            name = pending.pop()
            if name in self._names:
                continue
            self._names.add(name)
            for number, source in enumerate(self.sources):
                for row in source.rows(name):
                    try:
                        pending += [dependency.name for dependency in self._add(row, number).depends]
                    except DependencyError as error:
                        self._odd.add(row["P"], row["V"], f"can't read what {row['P']} {row['V']} depends on: {error}")
                for row in source.rows_if(name):
                    pending += self._conditional(row)

    def _conditional(self, row: Mapping[str, str]) -> list[str]:
        """Return the name of a package to look at, when all that it waits for can be there."""
        try:
            waits_for = dependencies_of(ApkStanza(row), "i")
        except DependencyError as error:
            self._odd.add(row["P"], row["V"], f"can't read what {row['P']} waits for: {error}")
            return []
        return [row["P"]] if all(d.conflict or d.name in self._names for d in waits_for) else []
