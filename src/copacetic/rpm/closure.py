# SPDX-License-Identifier: Apache-2.0
"""What a set of installed packages lacks, or has too much of, by rpm's rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from copacetic.rpm import tags
from copacetic.rpm.dependency import (
    EQUAL,
    MISSING_OK,
    Requirement,
    RpmDependency,
    RpmDependencyError,
    holds,
    make_requirement,
    simple_parts,
)
from copacetic.rpm.files import FileState
from copacetic.rpm.header import HeaderError, RpmHeader
from copacetic.version.rpm import RpmVersion

__all__ = ["broken_dependencies"]

MAX_STEPS = 1_000_000
"""Pairs of a dependency and a package that has the name: honest packages have some ten thousand."""
_REQUIRES = (tags.REQUIRE_NAMES, tags.REQUIRE_FLAGS, tags.REQUIRE_VERSIONS)
_CONFLICTS = (tags.CONFLICT_NAMES, tags.CONFLICT_FLAGS, tags.CONFLICT_VERSIONS)
_PROVIDES = (tags.PROVIDE_NAMES, tags.PROVIDE_FLAGS, tags.PROVIDE_VERSIONS)
_THERE = frozenset({FileState.NORMAL, FileState.NET_SHARED})


def broken_dependencies(headers: Sequence[RpmHeader], resolve: Callable[[str], str]) -> Iterator[str]:
    """
    Yield, as sentences, every requirement that isn't met and every conflict. `resolve` gives a path's canonical one,
    its last part not followed. A dependency that rpm can't read counts for nothing. Raises `HeaderError`.
    """
    wanted = {number: dict.fromkeys(_read(header, _REQUIRES)) for number, header in enumerate(headers)}
    unwanted = {number: dict.fromkeys(_read(header, _CONFLICTS)) for number, header in enumerate(headers)}
    every = (one for rows in (wanted, unwanted) for found in rows.values() for one in found)
    set_of = _Providers(headers, {part.name for one in every for part in simple_parts(one)}, resolve)
    for number, header in enumerate(headers):
        name = header.text(tags.NAME)
        for requirement in wanted[number]:
            if not holds(requirement, set_of.meeting):
                yield f"{name} needs {requirement}, which is not installed"
        others = _without(set_of, number)
        for requirement in unwanted[number]:
            # With a simple one a package doesn't mean itself; rpm looks for the parts of a rich one everywhere.
            if holds(requirement, others if isinstance(requirement, RpmDependency) else set_of.meeting):
                yield f"{name} conflicts with {requirement}, which is installed"


def _without(providers: _Providers, number: int) -> Callable[[RpmDependency], AbstractSet[int]]:
    return lambda dependency: providers.meeting(dependency) - {number}


def _read(header: RpmHeader, columns: tuple[int, int, int]) -> Iterator[Requirement]:
    """Yield what can be asked of other packages."""
    names, flags, versions = header.texts(columns[0]), header.numbers(columns[1]), header.texts(columns[2])
    for at, name in enumerate(names):
        flag = flags[at] if at < len(flags) else 0
        if name.startswith("rpmlib(") or flag & MISSING_OK:
            continue
        try:
            yield make_requirement(name, flag, versions[at] if at < len(versions) else "")
        except RpmDependencyError:
            continue


class _Providers:
    """Who has what is asked for."""

    def __init__(self, headers: Sequence[RpmHeader], names: AbstractSet[str], resolve: Callable[[str], str]) -> None:
        self._provided: dict[str, list[tuple[int, RpmDependency]]] = defaultdict(list)
        self._steps = MAX_STEPS
        wanted = {name.encode("utf-8", "surrogateescape") for name in names}
        for number, header in enumerate(headers):
            rows = header.raw_texts(tags.PROVIDE_NAMES)
            if wanted.isdisjoint(rows):
                continue
            for name, one in self._read(header, names):
                self._provided[name].append((number, one))
        self._owners = _owners(headers, {name for name in names if name.startswith("/")}, resolve)

    def meeting(self, dependency: RpmDependency) -> AbstractSet[int]:
        rows = self._provided.get(dependency.name, ())
        self._steps -= len(rows)
        if self._steps < 0:
            raise HeaderError(f"too many packages provide {dependency.name[:100]}")
        met = {number for number, one in rows if _is_met(dependency, one)}
        return self._owners.get(dependency.name, frozenset()) | met

    def _read(self, header: RpmHeader, names: AbstractSet[str]) -> Iterator[tuple[str, RpmDependency]]:
        flags, versions = header.numbers(_PROVIDES[1]), header.texts(_PROVIDES[2])
        for at, name in enumerate(header.texts(_PROVIDES[0])):
            if name in names and not name.startswith("("):
                try:
                    found = make_requirement(
                        name, flags[at] if at < len(flags) else 0, versions[at] if at < len(versions) else ""
                    )
                except RpmDependencyError:
                    continue
                assert isinstance(found, RpmDependency)
                yield name, found


def _is_met(dependency: RpmDependency, provided: RpmDependency) -> bool:
    """
    For rpm, what is provided without a version is there in all of them, and of two versions of which one alone has a
    release the other is equal to it, if it may be equal.
    """
    if not provided.flags or dependency.matches(provided):
        return True
    bare = [one for one in (dependency, provided) if "-" not in one.evr]
    if len(bare) != 1 or not bare[0].flags & EQUAL:
        return False
    return RpmVersion(dependency.evr).compare(RpmVersion(provided.evr)) == 0


def _owners(
    headers: Sequence[RpmHeader], paths: AbstractSet[str], resolve: Callable[[str], str]
) -> Mapping[str, AbstractSet[int]]:
    """Return whose file each path is, wherever links of the image lead on the way to it."""
    if not paths:
        return {}
    places: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        places[resolve(path)].append(path)
    names = {place.rpartition("/")[2].encode("utf-8", "surrogateescape") for place in places}
    found: dict[str, set[int]] = defaultdict(set)
    for number, header in enumerate(headers):
        bases = header.raw_texts(tags.BASE_NAMES)
        if names.isdisjoint(bases):
            continue
        folders, indexes = header.texts(tags.DIRECTORY_NAMES), header.numbers(tags.DIRECTORY_INDEXES)
        states = header.numbers(tags.FILE_STATES)
        for at, base in enumerate(bases):
            if base in names and (not states or states[at] in _THERE):
                place = resolve(folders[indexes[at]] + base.decode("utf-8", "surrogateescape"))
                for path in places.get(place, ()):
                    found[path].add(number)
    return found
