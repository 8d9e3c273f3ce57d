# SPDX-License-Identifier: Apache-2.0
"""
Relations between Debian packages: the grammar of Depends, Breaks, Conflicts, Provides (deb-control(5)), and what a
set of installed packages lacks by it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from copacetic.deb.deb822 import stanza_of
from copacetic.errors import InvalidVersionError
from copacetic.version import compare_versions

__all__ = [
    "Group",
    "Package",
    "Relation",
    "RelationError",
    "broken_relations",
    "parse_relations",
    "provides",
    "unreadable_relations",
]

_RELATION = re.compile(
    r"\s*([a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::([a-z0-9-]+))?"
    r"(?:\s*\(\s*(<<|<=|=|>=|>>|<|>)?\s*([^\s()<>=]+)\s*\))?"
    r"(?:\s*\[[^\]]*\])?(?:\s*<[^>]*>)*\s*"
)
_MAX_FIELD = 1_000_000
_OBSOLETE = {"<": "<=", ">": ">="}
POSITIVE = ("Pre-Depends", "Depends")
NEGATIVE = ("Breaks", "Conflicts")


class RelationError(ValueError):
    """A relation field that does not follow the grammar."""


class Relation(Struct, frozen=True):
    """One alternative: `name:qualifier (operator version)`."""

    name: str
    qualifier: str = ""
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Tell whether a version satisfies it; one that can't be compared does not."""
        if not self.operator:
            return True
        try:
            order = compare_versions("deb", version, self.version)
        except InvalidVersionError:
            return False
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[self.operator]

    def __str__(self) -> str:
        qualifier = f":{self.qualifier}" if self.qualifier else ""
        return f"{self.name}{qualifier}" + (f" ({self.operator} {self.version})" if self.operator else "")


Group = tuple[Relation, ...]
"""Alternatives, of which one is enough."""


@lru_cache(maxsize=65_536)
def parse_relations(text: str) -> tuple[Group, ...]:
    """Read a field. Raises `RelationError`, quoting what is wrong."""
    if len(text) > _MAX_FIELD:
        raise RelationError(f"a list of {len(text)} characters")
    return tuple(
        tuple(_parse_relation(alternative) for alternative in item.split("|"))
        for item in text.split(",")
        if item.strip()
    )


def _parse_relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if match is None:
        raise RelationError(f"not a relation: {text.strip()[:120]!r}")
    operator = match[3] or ("=" if match[4] else "")  # dpkg warns, and takes a bare version for this one
    return Relation(match[1], match[2] or "", _OBSOLETE.get(operator, operator), match[4] or "")


class Package(Protocol):
    """What relations need to know of a package, installed or offered."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def record(self) -> object:
        """A `Stanza`, or None."""
        ...


class _Provider(Struct, frozen=True):
    package: Package
    version: str
    """Empty for an unversioned Provides, which no versioned relation accepts."""


MAX_STEPS = 1_000_000
"""Pairs of a relation and a package that has the name: honest packages have some thousands."""
MAX_TEXT = 3_000_000
"""Characters of the relations of all packages; of a whole desktop's it is one million."""


class PackageSet:
    """A set of packages by what they provide."""

    def __init__(self, packages: Iterable[Package], native: str) -> None:
        self.packages = tuple(packages)
        self._native = native
        self._left = MAX_STEPS
        size = sum(len(_field(p, field)) for p in self.packages for field in (*POSITIVE, *NEGATIVE, "Provides"))
        if size > MAX_TEXT:
            raise RelationError(f"relations of {size} characters")
        self._providers: dict[str, list[_Provider]] = defaultdict(list)
        for package in self.packages:
            self._providers[package.name].append(_Provider(package, package.version))
            for group in _relations(package, "Provides"):
                for provided in group:
                    self._providers[provided.name].append(_Provider(package, provided.version))

    def has(self, name: str) -> bool:
        """Tell whether a package of this name is there, or one that provides it, whatever its version."""
        return name in self._providers

    def satisfying(self, relation: Relation, of: Package, *, positive: bool = True) -> Iterator[Package]:
        """Yield the packages that meet one relation of another package."""
        for provider in self._providers.get(relation.name, ()):
            self._left -= 1
            if self._left < 0:
                raise RelationError(f"too many packages provide what others ask for, as {relation.name}")
            if relation.operator and not provider.version:
                continue
            if not relation.accepts(provider.version):
                continue
            if self._architecture_fits(relation, of, provider.package, positive=positive):
                yield provider.package

    def _architecture_fits(self, relation: Relation, of: Package, other: Package, *, positive: bool) -> bool:
        if not positive and relation.qualifier in {"", "any"}:
            return True
        multi_arch = _field(other, "Multi-Arch")
        if relation.qualifier == "any":
            return multi_arch == "allowed" or other.architecture in {self._of(of), "all"}
        wanted = {"": self._of(of), "native": self._native}.get(relation.qualifier, relation.qualifier)
        theirs = self._native if other.architecture == "all" else other.architecture
        return theirs == wanted or (multi_arch == "foreign" and not relation.qualifier)

    def _of(self, package: Package) -> str:
        return self._native if package.architecture == "all" else package.architecture


def _field(package: Package, name: str) -> str:
    return stanza_of(package).fields.get(name, "")


def _relations(package: Package, field: str) -> tuple[Group, ...]:
    """What a field asks for; nothing when it can't be read."""
    text = _field(package, field)
    try:
        return parse_relations(text) if text else ()
    except RelationError:
        return ()


def unreadable_relations(package: Package) -> str:
    """Say which field of a package can't be read, and why; such a field counts for nothing. Mostly there is none."""
    for field in (*POSITIVE, *NEGATIVE, "Provides"):
        try:
            parse_relations(_field(package, field))
        except RelationError as error:
            return f"{field}: {error}"
    return ""


def provides(package: Package, relation: Relation) -> bool:
    """Tell whether a package's `Provides` meets a relation."""
    for group in _relations(package, "Provides"):
        for provided in group:
            if provided.name == relation.name:
                return not relation.operator or (bool(provided.version) and relation.accepts(provided.version))
    return False


class Broken(Struct, frozen=True):
    """A relation that doesn't hold in a set."""

    package: Package
    field: str
    group: Group
    offender: Package | None = None
    """For Breaks and Conflicts: who is too much."""

    def __str__(self) -> str:
        wanted = " | ".join(str(relation) for relation in self.group)
        if self.offender is None:
            return f"{self.package.name} {self.field} {wanted}, which is not installed"
        return (
            f"{self.package.name} {self.field} {wanted}, and {self.offender.name} {self.offender.version} is installed"
        )


def broken_relations(packages: Sequence[Package], native: str, *, partial: Collection[str] = ()) -> Iterator[Broken]:
    """
    Yield what doesn't hold in a set of packages. Raises `RelationError` when too many provide the same.

    Of those in `partial`, by name, only a part is there: that something isn't there at all is nothing broken.
    """
    known = PackageSet(packages, native)
    for package in known.packages:
        for field in POSITIVE:
            for group in _relations(package, field):
                if package.name in partial and not any(known.has(relation.name) for relation in group):
                    continue
                if not any(any(known.satisfying(relation, package)) for relation in group):
                    yield Broken(package, field, group)
        for field in NEGATIVE:
            for group in _relations(package, field):
                for relation in group:
                    for other in known.satisfying(relation, package, positive=False):
                        if other is not package and other.name != package.name:
                            yield Broken(package, field, (relation,), other)
