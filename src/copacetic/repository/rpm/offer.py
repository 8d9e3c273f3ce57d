# SPDX-License-Identifier: Apache-2.0
"""
A package that may be in the resulting set: an installed one, or one that a repository offers.

Which fields matter for what: names, versions, dependencies and files say what goes together; location, checksum and
size how it is fetched; the rest what is to be preferred, and what people want to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

from msgspec import Struct

from copacetic.rpm.dependency import EQUAL, Requirement, RpmDependency

__all__ = ["Checksum", "RpmOffer", "RpmOfferSource"]


class Checksum(Struct, frozen=True):
    """Of the package file."""

    algorithm: str
    """As `hashlib` calls it."""
    hex: str


class RpmOffer(Struct, frozen=True, kw_only=True, eq=False):
    """One package; the same package of two repositories are two, and each is only itself."""

    name: str
    evr: str
    """`[epoch:]version-release`, an epoch of 0 left out."""
    architecture: str
    provides: tuple[RpmDependency, ...] = ()
    """Without the package's own name and version, which count always."""
    requires: tuple[Requirement, ...] = ()
    conflicts: tuple[Requirement, ...] = ()
    obsoletes: tuple[RpmDependency, ...] = ()
    recommends: tuple[Requirement, ...] = ()
    """Nothing is taken for their sake; of two that would do, the recommended one is preferred."""
    files: AbstractSet[str] = frozenset()
    """Absolute paths; of an offer those that its metadata lists, which may be a few only."""
    location: str = ""
    checksum: Checksum | None = None
    size: int = 0
    """Of the package file, in bytes."""
    repository: str = ""
    """The identity of its repository; empty for what is installed."""
    priority: int = 99
    """Of the repository: the smallest counts most."""
    cost: int = 1000
    """Of the repository: of equal packages the one is taken that costs least."""
    module: str = ""
    """`name:stream` of the module that it belongs to."""
    source: str = ""
    """The file name of the source package."""
    build_time: int = 0
    vendor: str = ""

    @property
    def nevra(self) -> str:
        return f"{self.name}-{self.evr}.{self.architecture}"

    @property
    def installed(self) -> bool:
        return not self.repository

    @property
    def itself(self) -> RpmDependency:
        """What a package provides without saying so."""
        return RpmDependency(self.name, EQUAL, self.evr)

    def __str__(self) -> str:
        return self.nevra


class RpmOfferSource(Protocol):
    """
    What the enabled repositories have, without what is excluded (by configuration, locks of versions or inactive
    module streams).
    """

    def named(self, name: str) -> Iterable[RpmOffer]:
        """Return the packages of a name."""
        ...

    def providing(self, name: str) -> Iterable[RpmOffer]:
        """Return the packages that have or provide a name, or for a path, have the file; in whatever version."""
        ...

    def obsoleting(self, name: str) -> Iterable[RpmOffer]:
        """Return the packages that obsolete a name, in whatever version."""
        ...
