# SPDX-License-Identifier: Apache-2.0
"""
Who owns a path: the packages' own lists, as they will be when everything is installed.

Follows dpkg's rules for paths that two packages have (Debian policy 7.6): directories are shared, instances of a
`Multi-Arch: same` package share files, diversions and Replaces settle the rest, and nothing else is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from operator import attrgetter
from typing import ClassVar

from msgspec import Struct

from copacetic.deb.deb822 import stanza_of
from copacetic.deb.relation import RelationError, parse_relations
from copacetic.errors import ConflictError
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.unpack.deb.package import DebPackage
from copacetic.updates import InstalledPackage, PackageKey

__all__ = ["Claim", "Ownership", "PathOwner"]


class PathOwner(Struct, frozen=True, eq=False):
    """A package after the upgrade: a new one, or one that stays."""

    key: PackageKey
    version: str
    replaces: str
    shared: bool
    installed: InstalledPackage | None = None
    """Set for one that stays."""

    _compared: ClassVar[attrgetter[tuple[object, ...]]] = attrgetter(
        "key",
        "version",
        "replaces",
        "shared",
    )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathOwner) and self._compared(self) == self._compared(other)

    def __hash__(self) -> int:
        return hash(self._compared(self))

    @property
    def name(self) -> str:
        return self.key.name


class Claim(Enum):
    """The answer to a package that wants to put a file at a path."""

    FREE = "free"
    TAKEN_OVER = "taken over"
    """It replaces the owner there."""
    REPLACED = "replaced"
    """The owner replaces it there, so its own file is left out."""


class Ownership:
    """The lists of all packages by path."""

    def __init__(
        self, database: DpkgDatabase, packages: Sequence[DebPackage], files: Mapping[PackageKey, Sequence[str]]
    ) -> None:
        """`files` are the paths of the new packages, by key."""
        self._database = database
        self._owners: dict[str, list[PathOwner]] = {}
        self._by_key: dict[PackageKey, PathOwner] = {}
        going = {package.installed for package in packages if package.installed is not None}
        for installed in database.packages():
            if installed not in going:
                self._add(_staying(installed), database.files(installed))
        for package in packages:
            owner = _arriving(package)
            self._by_key[package.key] = owner
            self._add(owner, files[package.key])

    def _add(self, owner: PathOwner, paths: Sequence[str]) -> None:
        for path in paths:
            self._owners.setdefault(path, []).append(owner)

    def others(self, path: str, package: DebPackage) -> list[PathOwner]:
        """Return who else has a path."""
        me = self._by_key[package.key]
        return [owner for owner in self._owners.get(path, ()) if owner is not me]

    def claim(self, path: str, package: DebPackage) -> tuple[Claim, list[PathOwner]]:
        """
        Settle whose file is at a path; with those that lose it.

        Raises `ConflictError` when two packages have it and neither replaces the other.
        """
        me = self._by_key[package.key]
        losers: list[PathOwner] = []
        diversion = self._database.diversions.get(path)
        for other in self.others(path, package):
            if other.name == me.name and other.shared and me.shared:
                continue
            if diversion is not None and diversion.package in (other.name, me.name):
                continue
            if _replaces(me, other):
                losers.append(other)
            elif _replaces(other, me):
                return Claim.REPLACED, []
            else:
                raise ConflictError(f"{path} is also in {other.name} {other.version}, which it doesn't replace")
        return (Claim.TAKEN_OVER, losers) if losers else (Claim.FREE, [])


def _staying(package: InstalledPackage) -> PathOwner:
    fields = stanza_of(package).fields
    return PathOwner(
        key=package.key,
        version=package.version,
        replaces=fields.get("Replaces", ""),
        shared=fields.get("Multi-Arch", "").strip() == "same",
        installed=package,
    )


def _arriving(package: DebPackage) -> PathOwner:
    return PathOwner(
        key=package.key,
        version=package.version,
        replaces=package.stanza.find("Replaces"),
        shared=package.is_shared,
    )


def _replaces(one: PathOwner, other: PathOwner) -> bool:
    try:
        groups = parse_relations(one.replaces)
    except RelationError:
        return False
    return any(r.name == other.name and r.accepts(other.version) for group in groups for r in group)
