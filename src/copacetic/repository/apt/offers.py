# SPDX-License-Identifier: Apache-2.0
"""
What the indexes that were loaded offer for a package: as apt's pins order it, and from its own vendor.

Whose an installed package is follows from the indexes that have exactly its version, from its record's `Origin`, or
from the words in its version; what none of these tells is the distribution's, whose point releases take old versions
away. Another vendor's version is left out unless a pin prefers it or the user allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from copacetic.deb.deb822 import stanza_of
from copacetic.deb.relation import Relation, provides
from copacetic.distro import Distro
from copacetic.repository.apt.index import PackagesIndex
from copacetic.repository.apt.preferences import DOWNGRADES, Preferences, Subject
from copacetic.repository.apt.resolver import sort_candidates
from copacetic.repository.vendor import (
    OWN,
    Vendor,
    explain_withheld,
    is_allowed,
    is_own_name,
    maintainer_of,
    tags_of,
    vendor_of_host,
)
from copacetic.updates import Candidate, InstalledPackage, PlannedUpdate
from copacetic.version import compare_versions

__all__ = ["Offered"]


class _Version(Struct, frozen=True):
    """One version that is offered, and where."""

    candidate: Candidate
    places: tuple[PackagesIndex, ...]
    priority: int
    pinned: bool


class Offered:
    """The packages of some indexes, for one image; `complete` says that there are no others."""

    def __init__(
        self,
        indexes: Sequence[PackagesIndex],
        preferences: Preferences,
        distro: Distro,
        *,
        complete: bool,
        allowed: Sequence[str] = (),
    ) -> None:
        self._indexes = tuple(indexes)
        self._preferences = preferences
        self._complete = complete
        self._allowed = tuple(allowed)
        self._vendors = {id(index): _vendor(index, distro) for index in indexes}
        self._has_own = OWN in self._vendors.values()
        self._known: dict[tuple[str, str], list[tuple[Candidate, list[PackagesIndex]]]] = {}

    def upgrades(self, package: InstalledPackage) -> Sequence[Candidate]:
        """
        Return the newer versions of the best priority, as apt finds its candidate: the installed version stays when
        nothing newer has at least its own, or when an older one is pinned so high that apt would go back to it.
        """
        versions, stay = self._newer(package)
        allowed = [one for one in versions if not self._crosses(package, one)]
        best = max((one.priority for one in allowed), default=0)
        return [one.candidate for one in allowed if one.priority == best] if best > 0 and best >= stay else ()

    def withheld(self, package: InstalledPackage) -> str:
        """Say which newer version is left out because it is another vendor's; empty when none is."""
        versions, stay = self._newer(package)
        crossing = [one for one in versions if one.priority >= max(stay, 1) and self._crosses(package, one)]
        if not crossing:
            return ""
        other = crossing[-1]
        theirs = (self._vendors[id(place)] for place in other.places)
        return explain_withheld(package.name, other.candidate.version, theirs, self._owners(package))

    def additions(self, relation: Relation, architecture: str) -> Sequence[Candidate]:
        """Return packages that would satisfy a relation and aren't installed, the best first."""
        ordered = self._best(relation.name, architecture, relation.accepts)
        if ordered:
            return ordered
        names = {c.name for index in self._indexes for c in index.providers(relation.name)}
        offered = [c for name in sorted(names) for c in self._best(name, architecture, lambda _: True)]
        return [c for c in offered if c.architecture in {architecture, "all"} and provides(c, relation)]

    def notes(self, updates: Sequence[PlannedUpdate]) -> Iterator[str]:
        """Name the updates that look as if they changed the vendor, where nothing tells for certain."""
        for update in updates:
            old, new = update.installed, update.candidate
            if old is None or self._places(old):
                continue
            before = maintainer_of(stanza_of(old).fields.get("Maintainer", ""))
            after = maintainer_of(stanza_of(new).fields.get("Maintainer", ""))
            if before and after and before != after and _upstream(old.version) != _upstream(new.version):
                yield (
                    f"{old.name} {old.version} becomes {new.version}: its maintainer was of {before} and is of "
                    f"{after}, and no repository has the installed version, which may be another vendor's"
                )

    def _newer(self, package: InstalledPackage) -> tuple[list[_Version], int]:
        """Return what is newer than a package, the oldest first, and the priority that keeps it as it is."""
        newer: list[_Version] = []
        stay = 0
        for candidate, places in self._versions(package.name, package.architecture):
            order = compare_versions("deb", candidate.version, package.version)
            if order == 0:
                continue
            version = self._weigh(candidate, package.architecture, places)
            if order > 0:
                newer.append(version)
            elif version.priority >= DOWNGRADES:
                stay = max(stay, version.priority)
        own = self._subject(package, package.architecture, [None, *self._places(package)])
        return newer, max(stay, self._preferences.priority(own))

    def _crosses(self, package: InstalledPackage, version: _Version) -> bool:
        """Tell whether a version is another vendor's, and nobody has said that it may take the package's place."""
        owners = self._owners(package)
        theirs = {self._vendors[id(place)] for place in version.places}
        if not owners or owners & theirs or is_allowed(package.name, self._allowed):
            return False
        return not (version.pinned and version.priority > self._own_priority(package))

    def _own_priority(self, package: InstalledPackage) -> int:
        return self._preferences.priority(self._subject(package, package.architecture, [None, *self._places(package)]))

    def _owners(self, package: InstalledPackage) -> frozenset[Vendor]:
        """Return whose an installed package may be; nothing where nobody could tell."""
        exact = frozenset(self._vendors[id(place)] for place in self._places(package))
        if exact:
            return exact
        origin = stanza_of(package).fields.get("Origin", "").strip().casefold()
        others = set(self._vendors.values()) - {OWN}
        if origin:
            return frozenset({origin if origin in others else OWN})
        tags = tags_of(package.version)
        offered = list(self._versions(package.name, package.architecture))
        alike = frozenset(
            self._vendors[id(place)]
            for candidate, places in offered
            if tags & tags_of(candidate.version)
            for place in places
        )
        if alike:
            return alike
        by_own = any(self._vendors[id(place)] == OWN for _, places in offered for place in places)
        return frozenset({OWN}) if self._has_own and (by_own or not self._complete) else frozenset()

    def _places(self, package: InstalledPackage) -> list[PackagesIndex]:
        """The indexes that have exactly the version that is installed."""
        return [
            place
            for candidate, places in self._versions(package.name, package.architecture)
            if compare_versions("deb", candidate.version, package.version) == 0
            for place in places
        ]

    def _versions(self, name: str, architecture: str) -> list[tuple[Candidate, list[PackagesIndex]]]:
        """Return every version that is offered, the oldest first, with the indexes that have it."""
        if (name, architecture) in self._known:
            return self._known[name, architecture]
        found: dict[str, tuple[Candidate, list[PackagesIndex]]] = {}
        for index in self._indexes:
            for candidate in index.find(name):
                if candidate.architecture in {architecture, "all"} or architecture == "all":
                    found.setdefault(candidate.version, (candidate, []))[1].append(index)
        versions = [found[candidate.version] for candidate in sort_candidates(c for c, _ in found.values())]
        self._known[name, architecture] = versions
        return versions

    def _best(self, name: str, architecture: str, accepts: Callable[[str], bool]) -> list[Candidate]:
        """Return the versions of a package that isn't installed, of the best priority, the newest first."""
        rows = [
            self._weigh(candidate, architecture, places)
            for candidate, places in self._versions(name, architecture)
            if accepts(candidate.version)
        ]
        best = max((row.priority for row in rows), default=0)
        return [row.candidate for row in rows if row.priority == best > 0][::-1]

    def _weigh(self, candidate: Candidate, architecture: str, places: Sequence[PackagesIndex]) -> _Version:
        subject = self._subject(candidate, architecture, places)
        priority, pinned = self._preferences.priority(subject), self._preferences.is_pinned(subject)
        return _Version(candidate, tuple(places), priority, pinned)

    def _subject(
        self, package: InstalledPackage | Candidate, architecture: str, places: Sequence[PackagesIndex | None]
    ) -> Subject:
        return Subject(
            name=package.name,
            source=package.source_name,
            version=package.version,
            architecture=architecture,
            places=places,
        )


def _vendor(index: PackagesIndex, distro: Distro) -> Vendor:
    """
    A repository is whose its signed Release says; one that says nothing is whose host it is on.

    Names that begin with `. ` are made from a suite's by aptly, when nobody gives one to a mirror.
    """
    name = index.release.field("Origin") or index.release.field("Label")
    if not name or name.startswith(". "):
        return vendor_of_host(index.release.source.uri)
    return OWN if is_own_name(name, distro) else name.casefold()


def _upstream(version: str) -> str:
    return version.rpartition(":")[2].rpartition("-")[0] or version
