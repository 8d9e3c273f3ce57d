# SPDX-License-Identifier: Apache-2.0
"""What a set of installed packages lacks, or has too much of, by apk's rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from copacetic.apk.dependency import (
    Dependency,
    DependencyError,
    dependencies_of,
    parse_dependencies,
    provided_names,
)
from copacetic.apk.stanza import ApkStanza

__all__ = ["broken_dependencies"]

MAX_STEPS = 1_000_000
"""Pairs of a dependency and a package that has the name: honest packages have some thousands."""
_Providers = dict[str, list[tuple[ApkStanza, str | None]]]


def broken_dependencies(
    packages: Sequence[ApkStanza], assumed: Sequence[ApkStanza], world: str, scheme: str
) -> Iterator[str]:
    """
    Yield, as sentences, every dependency that isn't met, every conflict and every name that two packages claim.

    `assumed` packages are there for others, and are not judged themselves. Raises `DependencyError`.
    """
    providers: _Providers = defaultdict(list)
    for package in (*packages, *assumed):
        for name, version in provided_names(package).items():
            providers[name].append((package, version))
    steps = MAX_STEPS
    for package in packages:
        wanted = dependencies_of(package, "D")
        steps -= sum(len(providers.get(dependency.name, ())) for dependency in wanted)
        if steps < 0:
            raise DependencyError(f"too many packages provide what others ask for, as {package.name}")
        yield from _unmet(package.name, package, wanted, providers, scheme)
    yield from _unmet("etc/apk/world", None, parse_dependencies(world), providers, scheme)
    judged = {id(package) for package in packages}
    for name, rows in providers.items():
        if len(rows) > 1 and any(version is not None for _, version in rows):
            names = sorted({package.name for package, _ in rows if id(package) in judged})
            if len(names) > 1:
                yield f"{' and '.join(names)} both are {name}, which only one package may be"


def _unmet(
    owner: str, package: ApkStanza | None, wanted: Sequence[Dependency], providers: _Providers, scheme: str
) -> Iterator[str]:
    for dependency in wanted:
        met = [
            other
            for other, version in providers.get(dependency.name, ())
            if dependency.matches(version, other.identity, scheme)
        ]
        if dependency.conflict:
            others = sorted(other.name for other in met if other is not package)
            if others:
                yield f"{owner} excludes {str(dependency)[1:]}, and {others[0]} is installed"
        elif not met:
            yield f"{owner} needs {dependency}, which is not installed"
