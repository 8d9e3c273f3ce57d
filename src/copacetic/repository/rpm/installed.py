# SPDX-License-Identifier: Apache-2.0
"""What repositories have to know of installed packages, from their headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm import tags
from copacetic.rpm.dependency import MISSING_OK, Requirement, RpmDependency, RpmDependencyError, make_requirement
from copacetic.rpm.files import read_files
from copacetic.rpm.header import HeaderError, RpmHeader
from copacetic.updates import InstalledPackage

__all__ = ["header_of", "module_labels", "offer_of", "provided_releases"]

_RELEASES = (
    "system-release",
    "system-release(releasever)",
    "system-release(releasever_major)",
    "system-release(releasever_minor)",
    "distribution-release",
    "distribution-release(releasever)",
    "redhat-release",
    "suse-release",
)
_EQUAL = 8


def header_of(package: InstalledPackage) -> RpmHeader | None:
    """Return a package's header; lists of distroless images have none."""
    header = getattr(package.record, "header", None)
    return header if isinstance(header, RpmHeader) else None


def _headers(installed: Iterable[InstalledPackage]) -> Iterator[RpmHeader]:
    return (header for header in map(header_of, installed) if header is not None)


def module_labels(installed: Iterable[InstalledPackage]) -> dict[str, str]:
    """Return `name:stream` of installed packages, by their names; empty for one that belongs to none."""
    labels: dict[str, str] = {}
    for header in _headers(installed):
        label = header.text(tags.MODULARITY_LABEL)
        labels[header.text(tags.NAME)] = ":".join(label.split(":")[:2]) if label.count(":") else ""
    return labels


def provided_releases(installed: Iterable[InstalledPackage]) -> dict[str, str]:
    """Return the releases of the distribution that packages give, by the names under which they do."""
    found: dict[str, str] = {}
    for header in _headers(installed):
        names = header.texts(tags.PROVIDE_NAMES)
        if not any(name in _RELEASES for name in names):
            continue
        flags, versions = header.numbers(tags.PROVIDE_FLAGS), header.texts(tags.PROVIDE_VERSIONS)
        for number, name in enumerate(names):
            if name not in _RELEASES:
                continue
            given = versions[number] if number < len(versions) else ""
            exact = number < len(flags) and flags[number] & 14 == _EQUAL and given
            own = name == header.text(tags.NAME)
            version = given if exact and not own else header.text(tags.VERSION)
            found.setdefault(name, version.rpartition(":")[2].partition("-")[0])
    return found


def offer_of(package: InstalledPackage) -> RpmOffer:
    """
    Describe an installed package as a resolver sees it. What can't be read of it is left out: only what becomes newly
    broken counts, and that can't be told of it.
    """
    header = header_of(package)
    if header is None:
        return RpmOffer(name=package.name, evr=package.version, architecture=package.architecture)
    try:
        files = frozenset(f"/{file.path.lstrip('/')}" for file in read_files(header))
    except HeaderError:
        files = frozenset()
    required = _relations(header, (tags.REQUIRE_NAMES, tags.REQUIRE_FLAGS, tags.REQUIRE_VERSIONS))
    label = header.text(tags.MODULARITY_LABEL)
    return RpmOffer(
        name=package.name,
        evr=package.version,
        architecture=package.architecture,
        provides=_ranges(header, (tags.PROVIDE_NAMES, tags.PROVIDE_FLAGS, tags.PROVIDE_VERSIONS)),
        requires=tuple(one for one, flags in required if not flags & MISSING_OK),
        conflicts=tuple(
            one for one, _ in _relations(header, (tags.CONFLICT_NAMES, tags.CONFLICT_FLAGS, tags.CONFLICT_VERSIONS))
        ),
        obsoletes=_ranges(header, (tags.OBSOLETE_NAMES, tags.OBSOLETE_FLAGS, tags.OBSOLETE_VERSIONS)),
        files=files,
        module=":".join(label.split(":")[:2]),
        source=header.text(tags.SOURCE_RPM),
        build_time=header.number(tags.BUILD_TIME) or 0,
        vendor=header.text(tags.VENDOR),
    )


def _relations(header: RpmHeader, numbers: tuple[int, int, int]) -> Iterator[tuple[Requirement, int]]:
    names, flags, versions = header.texts(numbers[0]), header.numbers(numbers[1]), header.texts(numbers[2])
    for number, name in enumerate(names):
        flag = flags[number] if number < len(flags) else 0
        try:
            yield make_requirement(name, flag, versions[number] if number < len(versions) else ""), flag
        except RpmDependencyError:
            continue


def _ranges(header: RpmHeader, numbers: tuple[int, int, int]) -> tuple[RpmDependency, ...]:
    return tuple(one for one, _ in _relations(header, numbers) if isinstance(one, RpmDependency))
